"""The answer that a report opens with: which model, how good, how sure, at what cost, and what next."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from cotuning_tune.report.claims import LEVEL
from cotuning_tune.report.comparison import UNDECIDED, Comparisons, bests_remark, verdict_lines
from cotuning_tune.report.forest import Forest, Row
from cotuning_tune.report.models import SettingModels, example_p, read_models
from cotuning_tune.report.repeats import Search
from cotuning_tune.report.results import StudyResult, device_of, methods_of, read_tables
from cotuning_tune.report.statistics import wilson_interval
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.scores import ACCURACY

MOST = 3  # data sets whose models are named one by one


@dataclass(frozen=True)
class Pick:
    """The model to take for a data set: of the study that validation puts first; the test split is not asked.

    ``interval``: where its score on new examples lies, at 95 %; None where that is not known. ``rival``: the study that
    validation puts second. ``beside``: every retrained study of its search there, with that interval.
    """

    run: RunDir
    study: StudyResult
    interval: tuple[float, float] | None
    rival: StudyResult | None
    rival_p: float | None
    beside: Sequence[tuple[StudyResult, tuple[float, float] | None]] = ()

    @property
    def tested(self) -> float:
        return fmean(self.study.scores)

    @property
    def validation(self) -> float:
        return float((self.study.selection or {})["val_score"])

    def sentence(self, *, named: bool) -> str:
        """Which model, how good on new examples, and how much its validation score flatters it."""
        which, metric = self.study.shown if named else self.study.learner, self.study.metric
        digits = metric.rough
        gap = metric.oriented(self.validation - self.tested)
        told = f"flatters it by {gap:.{digits}f}"
        if gap < 0:
            told = f"is {-gap:.{digits}f}{' points lower' if metric.percent else ' worse'}"
        within = f" ({' to '.join(f'{end:.{digits - 1}f}' for end in self.interval)})" if self.interval else ""
        what = "" if metric == ACCURACY else f" {metric.shown}"
        new = f"on new {self.study.examples} like the test split's{within}"
        return (
            f"Take {which}: {self.tested:.{digits}f}{metric.unit}{what} {new}; its validation {metric.shown} of"
            f" {self.validation:.{digits}f}{metric.unit} {told}."
        )

    def surer(self) -> str:
        """The model against the second best by validation, on the test examples."""
        if self.rival is None or self.rival_p is None:
            return ""
        told = "differ" if self.rival_p <= LEVEL else "are not told apart"
        p = f"p = {self.rival_p:.2g}"
        return (
            f" It and the next model by validation, {self.rival.learner}, {told} on such {self.study.examples} ({p})."
        )

    def picture(self, *, named: bool) -> Forest:
        """Its score among those of the models that it was chosen from."""
        rows = [Row(study.learner, fmean(study.scores), ends, study is self.study) for study, ends in self.beside]
        return Forest(self.study.setting if named else "", self.study.metric, rows)


@dataclass(frozen=True)
class Answer:
    """The first lines of a report, what they say as figures for ``summary.json``, and their pictures."""

    lines: list[str]
    content: dict[str, Any]
    pictures: list[Forest] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The folder of the search that the model is taken from; '' where there is none."""
        return str(next((taken["run"] for taken in self.content.get("take", [])), ""))


def interval_of(study: StudyResult, models: SettingModels | None) -> tuple[float, float] | None:
    if models and study.method in models.models:
        return models.models[study.method].interval
    if study.metric != ACCURACY:
        return None
    count = min((int(seed.get("test_count", 0)) for seed in study.seeds if seed["state"] == "COMPLETE"), default=0)
    low, high = wilson_interval(count * fmean(study.scores) / 100, count)
    return 100 * low, 100 * high


def _rival_p(one: StudyResult, other: StudyResult, models: Mapping[str, SettingModels]) -> float | None:
    """Two-sided p of the two models on the same test examples: the pair was named by validation."""
    found = [models[s.setting].models.get(s.method) for s in (one, other) if s.setting in models]
    both = [model for model in found if model]
    if len(both) < 2 or len({(model.seeds[0].order, model.seeds[0].labels_N.tobytes()) for model in both}) > 1:
        return None
    return example_p(both[0].values, both[1].values)


def _by_validation(one: tuple[RunDir, StudyResult]) -> float:
    study = one[1]
    return -study.metric.oriented((study.selection or {})["val_score"])


def picks(searches: Sequence[tuple[RunDir, list[StudyResult]]]) -> list[Pick]:
    """For each data set, at its highest rate, the model that validation puts first over all searches."""
    found: list[Pick] = []
    tasks = dict.fromkeys(study.task for _, studies in searches for study in studies)
    for task in tasks:
        mine = [(run, study) for run, studies in searches for study in studies if study.task == task]
        rate = max(study.rate for _, study in mine)
        able = [one for one in mine if one[1].rate == rate and one[1].selection and one[1].scores]
        able.sort(key=_by_validation)  # a stable sort
        if not able:
            continue
        run, study = able[0]
        rival = next((other for owner, other in able[1:] if owner == run), None)
        own = [other for owner, other in mine if owner == run and other.rate == rate]
        models = {one.setting: one for one in read_models(own)}
        p = _rival_p(study, rival, models) if rival else None
        beside = [(other, interval_of(other, models.get(other.setting))) for other in own if other.scores]
        interval = next(ends for other, ends in beside if other is study)
        found.append(Pick(run, study, interval, rival, p, beside))
    return found


def _cost(run: RunDir, every: Sequence[list[StudyResult]]) -> str:
    """Trainings and hours of all searches; a trial trains once on each of its validation splits."""
    studies, splits = [study for one in every for study in one], read_tables(run)["experiment"].get("val_splits", 1)
    trainings = sum(study.finished * splits + len(study.confirmations) + len(study.seeds) for study in studies)
    hours = sum(study.search_seconds + study.retrain_seconds for study in studies) / 3600
    return f"It took {trainings} trainings, {hours:.3g} {device_of(run)}-hours."


def open_question(run: RunDir, comparisons: Comparisons) -> str:
    """The command that would compare the methods; '' where they are compared, or by the searches that are asked for."""
    if comparisons.why != UNDECIDED or comparisons.unequal or run.searches > 1 or run.first_search:
        return ""
    return shlex.join(["cotuning-tune", "resume", str(run.path), "--aim", "methods"])


def _next(run: RunDir, found: list[Pick], comparisons: Comparisons) -> str:
    """The commands that use the model, and the one that answers the other question."""
    form, given = ("torchscript", "FOLDER") if found[0].study.examples == "images" else ("transformers", "FILE")
    words = ["cotuning-tune", "export", str(run.path), "--format", form]
    then = f"Next: {shlex.join(words)}; then cotuning-tune predict EXPORT {given}."
    compare = open_question(run, comparisons)
    return f"{then} To compare the methods: {compare}." if compare else then


def taken(run: RunDir, studies: list[StudyResult], searches: list[Search]) -> list[Pick]:
    """The models of a run with these ``searches`` (none: it has one): the first search's, whatever repeats gave;
    where small searches share the trials, the best of all."""
    small = [(search.run, search.studies) for search in searches if search.small and searches[0].small]
    return picks(small or [(run, studies)])


def answer_of(
    run: RunDir, studies: list[StudyResult], searches: list[Search], comparisons: Comparisons, lead: str
) -> Answer:
    """The answer of a run with these ``searches`` (none: it has one). ``lead``: 'model' or 'methods' comes first."""
    found = taken(run, studies, searches)
    models = [pick.sentence(named=len(found) > 1) + pick.surer() for pick in found[:MOST]]
    if len(found) > MOST:
        models.append(f"{len(found) - MOST} more data sets: see the table of models.")
    methods = [*(bests_remark(comparisons) or filter(None, [comparisons.why])), *verdict_lines(comparisons)]
    lines = [*methods, *models] if lead == "methods" else [*models, *methods]
    lines.append(_cost(run, [search.studies for search in searches] or [studies]))
    lines += [_next(run, found, comparisons)] if found else []
    claim = comparisons.claim
    content = {
        "take": [
            {
                "run": str(pick.run.path),
                "study": pick.study.name,
                "metric": pick.study.metric.name,
                "test_score": pick.tested,
                "interval": list(pick.interval) if pick.interval else None,
                "val_score": pick.validation,
            }
            for pick in found
        ],
        "may_be_best": claim.bests if claim else methods_of(studies),
        "unit": comparisons.scope if claim else "",
        "least_difference": claim.least if claim else None,
    }
    pictures = [pick.picture(named=len(found) > 1) for pick in found[:MOST] if len(pick.beside) > 1]
    return Answer(lines, content, pictures)
