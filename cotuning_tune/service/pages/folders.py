"""What pages read of a run's folder: its studies, trials and logs. Reads alone, without torch, Ray and Optuna."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.records import Epoch, read_facts, read_rows
from cotuning_tune.scores import ACCURACY, METRICS, Metric, metric_of
from cotuning_tune.service.problems import NotReady, Unknown

DAMAGED = (OSError, UserError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Trial:
    """A trial as its files show it. ``state``: Optuna's, RUNNING where it has not ended; ``score``: on validation,
    of the epoch that is kept, or of the last one so far; ``values``: of the hyper-parameters; ``seconds``: trained."""

    number: int
    state: str = "RUNNING"
    score: float | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """A study as its files show it. ``budget``: trials that it shall have, 0 where that is not known yet;
    ``chosen``: the selected trial; ``tested``: test scores of the retrained seeds."""

    name: str
    metric: Metric
    trials: list[Trial]
    budget: int = 0
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
def reading(run: Mapping[str, Any]) -> Iterator[RunDir]:
    """The run's folder. Raises NotReady where its files cannot be read."""
    try:
        yield RunDir(place(run["folder"]))
    except (NotReady, Unknown):
        raise
    except DAMAGED as problem:
        kind = "" if isinstance(problem, UserError | OSError) else f"{type(problem).__name__}: "
        raise NotReady(f"the files of {run['name']} cannot be read now ({kind}{problem})", "try again later") from None


@lru_cache(maxsize=8192)
def _kept(path: Path, _changed: float, _size: int) -> dict[str, Any]:
    return dict(read_facts(path))


def _facts(path: Path) -> dict[str, Any]:
    """What a JSON file holds, read again when it has changed; nothing where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return {}
    return _kept(path, found.st_mtime, found.st_size)


def studies(run: Mapping[str, Any]) -> list[Study]:
    """The studies that have begun, by name."""
    with reading(run) as folder:
        return [_study(one) for one in folder.study_folders()]


def study(run: Mapping[str, Any], name: str) -> Study:
    """One study. Raises Unknown where no study of that name has begun."""
    with reading(run) as folder:
        return _study(_study_folder(folder, name))


def _study_folder(run: RunDir, name: str) -> StudyDir:
    for folder in run.study_folders():
        if folder.name == name:
            return folder
    raise Unknown(f"this run has no study {name[:200]}", "choose one on its page; a study shows once it has begun")


def _study(folder: StudyDir) -> Study:
    whole = _facts(folder.summary)
    named = str(whole.get("metric", ""))
    seeds = [_facts(path) for path in sorted(folder.path.glob("retrain/seed*/result.json"))]
    return Study(
        folder.name,
        metric_of(named) if named in METRICS else ACCURACY,
        _trials(folder, whole.get("trials", [])),
        int(whole.get("budget", 0)),
        _facts(folder.selection).get("trial"),
        [float(seed["test_score"]) for seed in seeds if seed.get("state") == "COMPLETE"],
    )


def _trials(folder: StudyDir, recorded: list[dict[str, Any]]) -> list[Trial]:
    """The trials that ``study.json`` records, and those that only their own folders tell of."""
    found = {int(row["number"]): _row(row) for row in recorded if row["state"] != "RUNNING"}
    for path in (folder.path / "trials").glob("*"):
        if path.name.isdigit() and int(path.name) not in found:
            found[int(path.name)] = _trial(int(path.name), TrialDir(path))
    return [found[number] for number in sorted(found)]


def _row(row: Mapping[str, Any]) -> Trial:
    score = row["score"] if row["state"] == "COMPLETE" else row["value"]
    return Trial(row["number"], row["state"], score, row["values"], row["epochs"], row["seconds"], row["reason"])


def _trial(number: int, folder: TrialDir) -> Trial:
    values = _facts(folder.config).get("values", {})
    if result := _facts(folder.result):
        known = (result[key] for key in ("epochs", "seconds", "reason"))
        return Trial(number, result["state"], result["value"], values, *known)
    rows = read_rows(folder.metrics)
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    return Trial(number, "RUNNING", rows[-1].get("val_score") if rows else None, values, len(rows), seconds)


def trial(run: Mapping[str, Any], study: str, number: int) -> tuple[Study, Trial, list[Epoch]]:
    """A trial with its study and its epochs. Raises Unknown."""
    with reading(run) as folder:
        own = _study_folder(folder, study)
        whole = _study(own)
        for one in whole.trials:
            if one.number == number:
                return whole, one, read_rows(own.trial(number).metrics)
    raise Unknown(f"study {study} has no trial {number}", "choose one on the study's page")


def report(run: Mapping[str, Any]) -> bytes | None:
    """The report's page; None where there is none yet."""
    with reading(run) as folder:
        try:
            return (folder.report / "index.html").read_bytes()
        except FileNotFoundError:
            return None
