"""Figures over hyper-parameters: the trade-off weight, importance, parallel coordinates."""

import math
from statistics import mean
from typing import Any

from cotuning_tune.report.figures.chart import ALL, Axis, Figure, Series, Views, by_method, by_view
from cotuning_tune.report.results import StudyResult, metric_of_all, searched_of
from cotuning_tune.runs.folder import RunDir

BINS_A_DECADE = 2
MOST_ROWS = 400
NOISE = {2: (0.04, 0.96), 3: (0.03, 0.81), 4: (0.02, 0.72), 5: (0.01, 0.62)}  # 5 and 95 % of shares at 32 trials
Space = dict[str, dict[str, Any]]


def read_space(run: RunDir, backbone: str = "") -> Space:
    """Range or options of every searched parameter, by the key that the trials' values have."""
    return {key: search for space in searched_of(run, backbone).values() for key, search in space.items()}


def _weight_points(study: StudyResult) -> list[tuple[float, float]]:
    """Trade-off weight and validation score of each trial of full length: that of a stopped one says less."""
    key = f"{study.method}/weight"
    return sorted((float(t["values"][key]), t["value"]) for t in study.complete if key in t["values"])


def _centre(weight: float) -> float:
    """The middle of the weight's bin on the logarithmic axis; zero stays zero."""
    if weight <= 0:
        return 0.0
    return float(10 ** ((math.floor(math.log10(weight) * BINS_A_DECADE) + 0.5) / BINS_A_DECADE))


def binned(studies: list[StudyResult]) -> list[tuple[float, float]]:
    """Mean distance to the best of the same study, for each half decade of the weight."""
    bins: dict[float, list[float]] = {}
    for study in studies:
        points = _weight_points(study)
        best = max((value for _, value in points), key=study.metric.oriented, default=0.0)
        for weight, value in points:
            bins.setdefault(_centre(weight), []).append(value - best)
    return sorted((weight, mean(values)) for weight, values in bins.items())


def weight_figure(studies: list[StudyResult]) -> Figure:
    """Validation score against the trade-off weight of the method's term."""
    views: Views = {
        view: [Series.of(study.method, points) for study in mine if (points := _weight_points(study))]
        for view, mine in by_view(studies).items()
    }
    every = [Series.of(method, points) for method, mine in by_method(studies).items() if (points := binned(mine))]
    metric = metric_of_all(studies)
    return Figure(
        name="weight_sensitivity",
        title="Sensitivity to the trade-off weight",
        caption="A point is a trial of full length; its other hyper-parameters differ too. All studies: points below"
        " the best trial of the same study, mean over half a decade of the weight. Zero stands at the left end.",
        kind="points",
        x=Axis("trade-off weight", log=True),
        y=Axis(f"validation {metric.label}"),
        views={ALL: every, **views},
        y_of_all=f"{metric.points} {'below' if metric.greater_is_better else 'above'} the study's best",
    )


def _plain(method: str, key: str) -> str:
    """The parameter's name without its method's, so that methods share a row."""
    return key.removeprefix(f"{method}/")


def _shares(studies: list[StudyResult]) -> list[dict[str, Any]]:
    """For each parameter the mean share of each method over its studies."""
    found: dict[str, dict[str, list[float]]] = {}
    for study in studies:
        for key, share in study.importance.items():
            found.setdefault(_plain(study.method, key), {}).setdefault(study.method, []).append(share)
    return [{"parameter": p, "shares": {m: mean(v) for m, v in by.items()}} for p, by in found.items()]


def _noise(studies: list[StudyResult]) -> str:
    """Between what shares nine in ten lie where the score follows no parameter: of so many as the studies have."""
    ranges = [NOISE[min(len(study.importance), max(NOISE))] for study in studies if len(study.importance) > 1]
    return f"{min(low for low, _ in ranges):.2f} to {max(high for _, high in ranges):.2f}" if ranges else "any share"


def importance_figure(studies: list[StudyResult]) -> Figure:
    """Which hyper-parameter made the difference between the best trials and the others."""
    views: Views = {view: _shares(mine) for view, mine in by_view(studies).items()}
    noise = _noise(studies)
    return Figure(
        name="importance",
        title="Importance of the hyper-parameters",
        caption="PED-ANOVA: how differently the best tenth of a study's trials and all of them are spread over each"
        " range; the shares of a method add up to 1. All studies: the mean. From 30 trials of full length"
        f" on. Where no parameter matters at all, noise gives a study of 32 trials {noise} for each.",
        kind="shares",
        x=Axis(f"share (pure noise: {noise})"),
        y=Axis(""),
        views={ALL: _shares(studies), **views},
    )


def _parallel(study: StudyResult, space: Space) -> dict[str, Any]:
    trials = sorted(study.complete, key=lambda t: study.metric.oriented(float(t["value"])))[-MOST_ROWS:]
    keys = list(dict.fromkeys(key for trial in trials for key in trial["values"]))
    axes = [{"name": _plain(study.method, key), **space.get(key, {})} for key in keys]
    chosen = study.selection["trial"] if study.selection else None
    rows = [[t["number"], *(t["values"].get(key) for key in keys), t["value"]] for t in trials]
    shown = {"score": study.metric.label, "less": not study.metric.greater_is_better}
    return {"method": study.method, "axes": axes, "rows": rows, "chosen": chosen, **shown}


def parallel_figure(run: RunDir, studies: list[StudyResult]) -> Figure:
    """Every trial of one method in one study as a line through its values and its score."""
    spaces = {backbone: read_space(run, backbone) for backbone in {study.backbone for study in studies}}
    return Figure(
        name="parallel",
        title="Parallel coordinates",
        caption="A line is a trial of full length, through its values to its validation score; the stronger, the"
        " better. The thick line is the chosen one.",
        kind="parallel",
        x=Axis(""),
        y=Axis(f"validation {metric_of_all(studies).label}"),
        views={
            view: [drawn for study in mine if (drawn := _parallel(study, spaces[study.backbone]))["rows"]]
            for view, mine in by_view(studies).items()
        },
    )
