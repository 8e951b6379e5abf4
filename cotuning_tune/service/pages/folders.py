"""What a run's folder shows, as pages need it: every study with its trials."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.runs.records import Epoch
from cotuning_tune.scores import ACCURACY, METRICS, Metric
from cotuning_tune.service import shown
from cotuning_tune.service.engine import Row
from cotuning_tune.service.problems import NotReady


@dataclass(frozen=True)
class Trial:
    """A trial. ``state``: Optuna's, RUNNING where it has not ended; ``score``: on validation, of the epoch that is
    kept, or of the last one so far; ``values``: of the hyper-parameters; ``seconds``: trained."""

    number: int
    state: str = "RUNNING"
    score: float | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """A study. ``chosen``: the selected trial; ``tested``: test scores of the retrained seeds."""

    name: str
    metric: Metric
    trials: list[Trial]
    chosen: int | None = None
    tested: list[float] = field(default_factory=list)

    @property
    def counts(self) -> Mapping[str, int]:
        """Trials by state."""
        return Counter(trial.state for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial of full length with the best validation score."""
        found = [one for one in self.trials if one.state == "COMPLETE" and one.score is not None]
        return max(found, key=lambda one: self.metric.oriented(one.score or 0.0), default=None)

    @property
    def failures(self) -> list[tuple[str, list[Trial]]]:
        """Why trials failed, the most frequent reason first."""
        found: dict[str, list[Trial]] = {}
        for one in self.trials:
            if one.state == "FAIL":
                found.setdefault(one.reason or "it gave no reason", []).append(one)
        return sorted(found.items(), key=lambda item: -len(item[1]))


@contextmanager
def _readable(run: Row) -> Iterator[None]:
    """Raises NotReady for files that cannot be read, or hold what none of ours does."""
    try:
        yield
    except UserError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as problem:
        why = problem if isinstance(problem, OSError) else f"{type(problem).__name__}: {problem}"
        raise NotReady(f"the files of {run['name']} cannot be read now ({why})", "try again later") from None


def studies(run: Row) -> list[Study]:
    """The studies that have begun, by name. Raises Problem where they cannot be read."""
    with _readable(run):
        return [study(run, one["study"]) for one in shown.studies(run)]


def study(run: Row, name: str) -> Study:
    """One study. Raises Unknown where none of that name has begun."""
    with _readable(run):
        found = shown.study(run, name)
        tested = [float(seed["test_score"]) for seed in found["retrain"] if seed.get("state") == "COMPLETE"]
        metric = METRICS.get(found["metric"], ACCURACY)
        return Study(name, metric, [_trial(row) for row in found["trials"]], found["selected"], tested)


def _trial(row: Mapping[str, Any]) -> Trial:
    score = row["value"] if row["score"] is None and row["state"] == "PRUNED" and "value" in row else row["score"]
    told = row["values"] or {}, row["epochs"] or 0, row["seconds"] or 0.0, row["reason"] or ""
    return Trial(int(row["number"]), str(row["state"]), score, *told)


def trial(run: Row, name: str, number: int) -> tuple[Study, Trial, list[Epoch]]:
    """A trial with its study and its epochs. Raises Unknown."""
    with _readable(run):
        found = shown.trial(run, name, number)
        own = study(run, name)
        return own, next((one for one in own.trials if one.number == number), _trial(found)), found["history"]


def has_report(run: Row) -> bool:
    """Whether the report is there."""
    with _readable(run):
        return "index.html" in shown.report_files(run)
