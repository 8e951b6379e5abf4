"""Published test scores beside the run's own, where data set, rate, backbone and method are the same.

Three sources, and none is a fair opponent without a word: the protocol of each stands in the table's note.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.report.results import StudyResult
from cotuning_tune.scores import ACCURACY, METRICS

RATES = (0.15, 0.3, 0.5, 1.0)
WEIGHTS = "IMAGENET1K_V1"
Figures = Mapping[str, Mapping[str, tuple[float, ...]]]


@dataclass(frozen=True)
class Source:
    """Test scores (%) by kind of data set and method, one value for each of ``RATES`` (nan: none).

    ``crops``: 'ten' or 'centre', of each test image, '' of texts; ``metric``: by name. ``caution``: why its figures are
    no fair opponent.
    """

    name: str
    backbone: str
    protocol: str
    crops: str
    caution: str
    figures: Figures
    metric: str = ACCURACY.name

    def figure(self, kind: str, rate: float, backbone: str, method: str) -> float | None:
        """The published score (%), None where there is none for exactly this."""
        values = self.figures.get(kind, {}).get(method)
        family, *path = backbone.split("/")  # of transformers' models also in a folder of that name
        known = f"{family}/{path[-1]}" if family == "hf" and path else backbone
        if values is None or known != self.backbone or rate not in RATES:
            return None
        found = values[RATES.index(rate)]
        return None if math.isnan(found) else found


PAPER = Source(
    name="paper",
    backbone="resnet50",
    protocol="You et al., NeurIPS 2020: ten crops, mean of 3 runs",
    crops="ten",
    caution="",
    figures={
        "cub200": {
            "fine_tune": (45.25, 59.68, 70.12, 78.01),
            "l2_sp": (45.08, 57.78, 69.47, 78.44),
            "delta": (46.83, 60.37, 71.38, 78.63),
            "bss": (47.74, 63.38, 72.56, 78.85),
            "co_tuning": (52.58, 66.47, 74.64, 81.24),
        },
        "stanford_cars": {
            "fine_tune": (36.77, 60.63, 75.10, 87.20),
            "l2_sp": (36.10, 60.30, 75.48, 86.58),
            "delta": (39.37, 63.28, 76.53, 86.32),
            "bss": (40.57, 64.13, 76.78, 87.63),
            "co_tuning": (46.02, 69.09, 80.66, 89.53),
        },
        "fgvc_aircraft": {
            "fine_tune": (39.57, 57.46, 67.93, 81.13),
            "l2_sp": (39.27, 57.12, 67.46, 80.98),
            "delta": (42.16, 58.60, 68.51, 80.44),
            "bss": (40.41, 59.23, 69.19, 81.48),
            "co_tuning": (44.09, 61.65, 72.73, 83.87),
        },
    },
)

LIBRARY = Source(
    name="library",
    backbone="resnet50",
    protocol="the authors' later library: centre crop, one seed, the best epoch on the TEST split",
    crops="centre",
    caution="its epoch was chosen on the test split, with one seed: these figures are too high to compare with",
    figures={
        "cub200": {
            "fine_tune": (51.2, 64.6, 74.6, 81.8),
            "lwf": (56.7, 66.8, 73.4, 81.5),
            "bss": (53.4, 66.7, 76.0, 82.0),
            "delta": (54.8, 67.3, 76.3, 82.3),
            "stoch_norm": (54.8, 66.8, 75.8, 82.2),
            "co_tuning": (57.6, 70.1, 77.3, 82.5),
            "bi_tuning": (55.8, 69.3, 77.2, 83.1),
        },
        "stanford_cars": {
            "fine_tune": (41.1, 65.9, 78.4, 87.8),
            "lwf": (44.9, 67.0, 77.6, 87.5),
            "bss": (43.3, 67.6, 79.6, 88.0),
            "delta": (45.0, 68.4, 79.6, 88.4),
            "stoch_norm": (44.4, 68.1, 79.3, 87.9),
            "co_tuning": (49.0, 70.6, 81.9, 89.1),
            "bi_tuning": (48.3, 72.8, 83.3, 90.2),
        },
        "fgvc_aircraft": {
            "fine_tune": (41.6, 57.8, 68.7, 80.2),
            "lwf": (44.1, 60.6, 68.7, 82.4),
            "bss": (43.6, 59.5, 69.6, 81.2),
            "delta": (44.4, 61.9, 71.4, 82.7),
            "stoch_norm": (44.3, 60.6, 70.1, 81.5),
            "co_tuning": (45.9, 61.2, 71.3, 82.2),
            "bi_tuning": (47.2, 64.3, 73.7, 84.3),
        },
    },
)

CODE = Source(
    name="code",
    backbone="hf/bert-base-cased",
    protocol="three runs of the authors' code (91.16, 91.34, 91.31), weight 0.7",
    crops="",
    caution="",
    figures={"conll2003": {"co_tuning": (math.nan, math.nan, math.nan, 91.27)}},
    metric="entity_f1",
)

SOURCES = (PAPER, LIBRARY, CODE)


def _kind(tables: Mapping[str, Any], task: str) -> str:
    return str(tables.get("data", {}).get(task, {}).get("format", task))


def _figures(tables: Mapping[str, Any], study: StudyResult) -> dict[str, float]:
    """The published figures (%) of a study, by source."""
    chosen = (study.selection or {}).get("values", {}).get("backbone")  # of those that were searched
    kind, backbone = _kind(tables, study.task), study.backbone or chosen or tables["experiment"]["backbone"]
    found = {s.name: s.figure(kind, study.rate, backbone, study.method) for s in SOURCES}
    return {name: value for name, value in found.items() if value is not None}


def _accuracies(study: StudyResult) -> list[float]:
    """Of images top-1 of each tested seed, whatever the study is judged by; of tagged texts entity F1."""
    if study.metric == ACCURACY or study.metric.entities:
        return study.scores
    return [seed["test_accuracy"] for seed in study.seeds if "test_accuracy" in seed]


def published_table(tables: Mapping[str, Any], studies: list[StudyResult]) -> Table | None:
    """Own mean beside each source's figure, with the difference in points; None where nothing matches.

    ``tables``: the experiment file.
    """
    matches = [(study, found) for study in studies if (found := _figures(tables, study))]
    sources = [s for s in SOURCES if any(s.name in found for _, found in matches)]
    if not sources:
        return None
    header = ["method", "study", "own"]
    for source in sources:
        header += [source.name, f"own - {source.name}"]
    rows = []
    for study, found in matches:
        own = mean(accuracies) if (accuracies := _accuracies(study)) else None
        row = [study.method, study.setting, "-" if own is None else f"{own:.2f}"]
        for source in sources:
            value = found.get(source.name)
            row.append("-" if value is None else f"{value:.2f}")
            row.append("-" if value is None or own is None else f"{own - value:+.2f}")
        rows.append(row)
    protocols = "; ".join(f"{source.name}: {source.protocol}" for source in sources)
    shown = " and ".join(dict.fromkeys(METRICS[source.metric].long for source in sources))
    note = f"Test {shown} in percent. {_own_protocol(tables)}; {protocols}."
    return Table("published", "Published figures", header, rows, note)


def _crops(tables: Mapping[str, Any]) -> str:
    return "ten" if tables["experiment"].get("test_crops") == "ten" else "centre"


def _shown(crops: str) -> str:
    return {"ten": "ten crops", "centre": "centre crop"}[crops]


def _every_label(tables: Mapping[str, Any]) -> bool:
    return bool(tables["experiment"].get("retrain_on") == "trainval")


def _own_protocol(tables: Mapping[str, Any]) -> str:
    on = "trained on every label" if _every_label(tables) else "not trained on the validation images"
    return f"own: {_shown(_crops(tables))}, mean over the seeds, configuration chosen on validation, {on}"


def published_remarks(tables: Mapping[str, Any], studies: list[StudyResult]) -> list[str]:
    """A warning for each way in which a shown source was measured otherwise than the run."""
    shown = {name for study in studies for name in _figures(tables, study)}
    remarks = []
    for source in (s for s in SOURCES if s.name in shown):
        if source.crops not in ("", _crops(tables)):
            differ = f"tested with {_shown(_crops(tables))}, {source.name} with {_shown(source.crops)}"
            remarks.append(f"WARNING: own models were {differ}: the differences to it mix both.")
        if source.caution:
            remarks.append(f"WARNING: {source.name}: {source.caution}.")
    if shown and not _every_label(tables):
        remarks.append(
            "Published models were trained on every label, own without the validation images: --retrain-on trainval."
        )
    weights = tables["experiment"].get("weights", "")
    if shown - {CODE.name} and weights != WEIGHTS:
        own = f"'{weights}'" if weights else "torchvision's newest"
        remarks.append(f"WARNING: published figures start from the weights {WEIGHTS}, own from {own}.")
    return remarks
