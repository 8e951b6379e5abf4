"""What happens to a run: a small closed set of events, and where each search stands after them.

An event is told after the study or the files hold what it tells: they stay the only truth, and whoever missed
events reads them there. Events hold plain values. Imports neither torch nor ray.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cotuning_tune.scores import metric_of

Stage = Literal["search", "retrain", "report"]
TrialState = Literal["COMPLETE", "PRUNED", "FAIL", "LOST"]
RunState = Literal["done", "unfinished", "failed"]
Row = Mapping[str, float]
Counts = Mapping[str, int]
ENDED_AS: dict[str, str] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Standing:
    """How far one search is. Seconds are those of ended trainings, as in the report.

    ``trials``: by study how many are ``complete``, ``pruned``, ``failed``; ``best``: by study, validation score;
    ``metrics``: by study the name of its metric; ``underway``: of each training that runs, the share that this driver
    has trained; ``until``: when the search's hours will be used, on the driver's monotonic clock, 0 where its
    ``budget`` will not grow by them.
    """

    stage: Stage = "search"
    budget: int = 0
    until: float = 0.0
    trials: Mapping[str, Counts] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    underway: Mapping[tuple[str, int], float] = field(default_factory=dict)
    retrained: int = 0
    retrain_budget: int = 0
    search_seconds: float = 0.0
    retrain_seconds: float = 0.0

    def _sum(self, *states: str) -> int:
        return sum(counts.get(state, 0) for counts in self.trials.values() for state in states)

    @property
    def done(self) -> int:
        """Trials that have ended: those that failed by their own fault have used their draw up."""
        return self._sum("complete", "pruned", "failed")

    @property
    def failed(self) -> int:
        return self._sum("failed")

    @property
    def running(self) -> int:
        """Trainings that this driver has handed out, and that have not ended."""
        return len(self.underway)

    @property
    def share(self) -> float:
        """How many trainings' worth of epochs this driver has trained of those that run."""
        return sum(self.underway.values())


def best_of(best: Mapping[str, float], metrics: Mapping[str, str]) -> str:
    """The study with the best validation score so far; metrics that are mixed are all in percent."""
    judged = {study: metric_of(metrics.get(study, "")) for study in best}
    if not judged:
        return "no result yet"
    name = max(judged, key=lambda study: judged[study].oriented(best[study]))
    return f"best val. {judged[name].text(best[name])}{judged[name].unit} ({name})"


@dataclass(frozen=True)
class Checked:
    """What was asked has been checked, and this driver holds the run: where its searches stand, by name."""

    searches: Mapping[str, Standing]


@dataclass(frozen=True)
class StageStarted:
    """A stage of a search begins. ``path``: of the search's folder; ``driver``: this driver's number there.

    ``concurrent`` trainings may run at a time, each with ``gpus`` GPUs.
    """

    search: str
    path: str
    driver: int
    standing: Standing
    concurrent: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class ShareChanged:
    """From now on ``concurrent`` trainings may run at a time; those that run beyond it end as they would."""

    concurrent: int


@dataclass(frozen=True)
class TrialStarted:
    """A trial has been handed out; ``budget``: how many trials the search shall have now, ``until`` as in Standing."""

    study: str
    trial: int
    values: Mapping[str, object]
    budget: int
    until: float = 0.0


@dataclass(frozen=True)
class EpochEnded:
    """A trial has reported: all its epochs so far, the last ``new`` of them for the first time, of ``epochs``."""

    study: str
    trial: int
    history: Sequence[Row]
    new: int
    epochs: int


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended; LOST: by the infrastructure, it will start again. Scores on validation.

    ``value``: the trial's best, ``best``: the study's best so far.
    """

    study: str
    trial: int
    state: TrialState
    value: float | None
    seconds: float
    best: float | None


@dataclass(frozen=True)
class Selected:
    """A study's best configuration has been chosen."""

    study: str
    trial: int
    val_score: float


@dataclass(frozen=True)
class SeedStarted:
    """The retraining of a study's chosen configuration with a seed has been handed out."""

    study: str
    seed: int


@dataclass(frozen=True)
class SeedEnded:
    """A seed has been retrained, and tested unless it failed (``reason``)."""

    study: str
    seed: int
    test_score: float | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Reported:
    """The report has been written. ``answer``: the models to take, the methods that may be the best, the unit."""

    answer: Mapping[str, object]


@dataclass(frozen=True)
class Notice:
    """One line for the user; ``urgent``: something is wrong."""

    text: str
    urgent: bool = False


@dataclass(frozen=True)
class Waiting:
    """Nothing continues until something has been mended or has come; one line says what."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """The driver ends; ``reason`` in one line where the run is not done."""

    state: RunState
    reason: str = ""


Event = (
    Checked
    | StageStarted
    | ShareChanged
    | TrialStarted
    | EpochEnded
    | TrialEnded
    | Selected
    | SeedStarted
    | SeedEnded
    | Reported
    | Notice
    | Waiting
    | Ended
)


def after(event: Event, before: Standing) -> Standing:
    """Where a search stands after an event of its own; most change nothing."""
    match event:
        case StageStarted(standing=standing):
            return standing
        case TrialStarted(study, trial):
            underway = {**before.underway, (study, trial): 0.0}
            return replace(before, budget=event.budget, until=event.until, underway=underway)
        case EpochEnded(study, trial):
            share = before.underway.get((study, trial), 0.0) + event.new / event.epochs
            return replace(before, underway={**before.underway, (study, trial): share})
        case TrialEnded():
            return _after_trial(event, before)
        case SeedStarted(study, seed):
            return replace(before, underway={**before.underway, (study, seed): 0.0})
        case SeedEnded(study, seed):
            seconds = before.retrain_seconds + event.seconds
            underway = _without(before, study, seed)
            return replace(before, underway=underway, retrained=before.retrained + 1, retrain_seconds=seconds)
        case Ended():
            return replace(before, underway={})
    return before


def _after_trial(event: TrialEnded, before: Standing) -> Standing:
    now = replace(before, underway=_without(before, event.study, event.trial))
    if event.state == "LOST":
        return now
    counts, state = before.trials.get(event.study, {}), ENDED_AS[event.state]
    return replace(
        now,
        trials={**before.trials, event.study: {**counts, state: counts.get(state, 0) + 1}},
        best=before.best if event.best is None else {**before.best, event.study: event.best},
        search_seconds=before.search_seconds + event.seconds,
    )


def _without(standing: Standing, study: str, number: int) -> dict[tuple[str, int], float]:
    return {key: share for key, share in standing.underway.items() if key != (study, number)}
