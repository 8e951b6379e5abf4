"""What a run's files say of each study."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.base.toml_text import tables_of
from cotuning_tune.runs.folder import RunDir, StudyDir
from cotuning_tune.runs.records import read_facts
from cotuning_tune.scores import ACCURACY, Metric, common, metric_of

AT_CHANCE = 3.0  # standard errors


@dataclass(frozen=True)
class StudyResult:
    """A study: its trials, the selection (None: no trial succeeded), the retrained seeds.

    ``confirmations``: of the best on another validation split. ``name``: of its folder. ``importance``: share of each
    searched parameter; empty where unknown. ``val_count``: examples of its validation split; ``chance``: what guessing
    by the classes' shares scores there; both 0 where unknown. ``examples``: what they are. ``backbone``: where each has
    studies of its own, else ''.
    """

    task: str
    rate: float
    method: str
    budget: int
    trials: list[dict[str, Any]]
    selection: dict[str, Any] | None
    seeds: list[dict[str, Any]]
    name: str = ""
    importance: dict[str, float] = field(default_factory=dict)
    folder: StudyDir | None = None
    confirmations: list[dict[str, Any]] = field(default_factory=list)
    val_count: int = 0
    chance: float = 0.0
    backbone: str = ""
    metric: Metric = ACCURACY
    examples: str = "images"

    @property
    def setting(self) -> str:
        """The task at its rate, with its backbone: what the studies of all methods share."""
        return f"{self.task} {100 * self.rate:g} %{f' {self.backbone}' if self.backbone else ''}"

    @property
    def learner(self) -> str:
        """The method, with its backbone where each has studies of its own."""
        return f"{self.method} with {self.backbone}" if self.backbone else self.method

    @property
    def shown(self) -> str:
        return f"{self.learner} on {self.task} at {100 * self.rate:g} %"

    def count(self, state: str) -> int:
        """Trials in a state of Optuna's: COMPLETE, PRUNED, FAIL, RUNNING."""
        return sum(trial["state"] == state for trial in self.trials)

    @property
    def search_epochs(self) -> int:
        return sum(trial["epochs"] for trial in [*self.trials, *self.confirmations])

    @property
    def search_seconds(self) -> float:
        return sum(float(trial["seconds"]) for trial in [*self.trials, *self.confirmations])

    @property
    def retrain_seconds(self) -> float:
        return sum(float(seed["seconds"]) for seed in self.seeds)

    @property
    def finished(self) -> int:
        """Trials that have ended and count against the budget: also those that failed by their own fault."""
        return self.count("COMPLETE") + self.count("PRUNED") + self.count("FAIL")

    @property
    def longest(self) -> int:
        """Epochs of the longest trial: how many the experiment gives one."""
        return max((int(trial["epochs"]) for trial in self.complete), default=0)

    @property
    def complete(self) -> list[dict[str, Any]]:
        """The trials of full length, by number."""
        return [trial for trial in self.trials if trial["state"] == "COMPLETE"]

    def at_chance(self, trial: Mapping[str, Any]) -> bool:
        """Whether a trial learned nothing: at most three standard errors, or a tenth of the way, better than chance."""
        if not self.val_count or not self.chance or trial["state"] != "COMPLETE":
            return False
        value = self.metric.oriented(float(trial["value"]) - self.chance)
        if not self.metric.percent:
            return value <= self.chance / 10
        error = math.sqrt(self.chance * (100 - self.chance) / self.val_count)
        return value <= min(AT_CHANCE * error, (100 - self.chance) / 10)

    @property
    def by_seed(self) -> dict[int, float]:
        """Test score of each seed that came to an end."""
        return {seed["seed"]: seed["test_score"] for seed in self.seeds if seed["state"] == "COMPLETE"}

    @property
    def scores(self) -> list[float]:
        """Test scores of the seeds that came to an end."""
        return list(self.by_seed.values())


def mean_std(values: list[float], metric: Metric) -> str:
    """``mean +- sample standard deviation``; the mean alone of one value, a dash of none."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{metric.text(values[0])} (n = 1)"
    return f"{metric.text(statistics.mean(values))} ± {metric.text(statistics.stdev(values))}"


def metric_of_all(studies: Iterable[StudyResult]) -> Metric:
    """What all of them are judged by; where each data set has its own, one that says so."""
    return common(study.metric for study in studies)


def examples_of(studies: Iterable[StudyResult]) -> str:
    """What all data sets consist of: images, sentences, or examples where they differ."""
    found = dict.fromkeys(study.examples for study in studies)
    return next(iter(found)) if len(found) == 1 else "examples"


def each_metric(studies: Iterable[StudyResult]) -> str:
    """Which data set is judged by what, as ' (birds: accuracy; news: entity F1)'; '' where it is the same for all."""
    named = {study.task: study.metric.shown for study in studies}
    return f" ({'; '.join(f'{task}: {name}' for task, name in named.items())})" if len(set(named.values())) > 1 else ""


def settings_of(studies: list[StudyResult]) -> list[str]:
    """Every task at every rate, with every backbone, in the order of the studies."""
    return list(dict.fromkeys(study.setting for study in studies))


def methods_of(studies: list[StudyResult]) -> list[str]:
    """The methods in the order of the studies."""
    return list(dict.fromkeys(study.method for study in studies))


def studies_of(studies: list[StudyResult], method: str) -> dict[str, StudyResult]:
    """A method's studies by setting."""
    return {study.setting: study for study in studies if study.method == method}


def mean_over(studies: list[StudyResult], method: str) -> float | None:
    """Mean over the settings of the means over the seeds; None where a setting has no result."""
    mine = studies_of(studies, method)
    found = [mine[p].scores if p in mine else [] for p in settings_of(studies)]
    return statistics.mean(map(statistics.mean, found)) if all(found) else None


def _read_study(folder: StudyDir) -> StudyResult:
    study = read_facts(folder.summary)
    seeds = [read_facts(path) for path in sorted(folder.path.glob("retrain/seed*/result.json"))]
    return StudyResult(
        task=study["task"],
        rate=study["rate"],
        method=study["method"],
        budget=study["budget"],
        trials=study["trials"],
        selection=read_facts(folder.selection) if folder.selection.exists() else None,
        seeds=sorted(seeds, key=lambda seed: int(seed["seed"])),
        name=folder.name,
        importance=study.get("importance", {}),
        folder=folder,
        confirmations=study.get("confirmations", []),
        val_count=study.get("val_count", 0),
        chance=study.get("chance", 0.0),
        backbone=study.get("backbone", ""),
        metric=metric_of(study.get("metric", "")),
        examples=study.get("examples", "images"),
    )


def read_tables(run: RunDir) -> dict[str, Any]:
    """The tables of the run's experiment file."""
    return tables_of(run.experiment_file.read_text(encoding="utf-8"))


def device_of(run: RunDir) -> str:
    """What the run's hours are hours of: "GPU", or "trial" where there was none."""
    return "GPU" if read_json(run.environment)["gpus"] else "trial"


def space_tables(run: RunDir) -> dict[str, Any]:
    """``space.toml``; empty where it is missing."""
    return tables_of(run.space_file.read_text(encoding="utf-8")) if run.space_file.exists() else {}


def searched_of(run: RunDir, backbone: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """Range or options of every searched parameter, by the key that the trials' values have, under its owner.

    Owners are ``train``, ``placed`` (backbone and image size) and the methods. ``backbone``: with its own ranges.
    """
    tables = space_tables(run)
    own = tables.get("backbones", {}).get(backbone, {}).get("train", {})
    owned = {"train": tables.get("train", {}) | own, "placed": tables.get("placed", {})}
    for method, space in tables.get("methods", {}).items():
        owned[method] = {f"{method}/{key}": search for key, search in space.items()}
    return {
        owner: {key: search for key, search in space.items() if isinstance(search, dict)}
        for owner, space in owned.items()
    }


def read_studies(run: RunDir) -> list[StudyResult]:
    """All studies that the search has summed up, methods in the experiment's order. UserError for none."""
    asked = read_tables(run)["experiment"]
    methods, backbones = list(asked["methods"]), list(asked.get("backbones", [""]))
    studies = [_read_study(folder) for folder in run.study_folders() if folder.summary.exists()]
    if not studies:
        raise UserError(f"{run.path} has nothing to report yet: its search has not ended (see status)")
    return sorted(studies, key=lambda c: (c.task, c.rate, backbones.index(c.backbone), methods.index(c.method)))
