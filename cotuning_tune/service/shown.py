"""What a run's folder shows: its studies, trials, tables and report. Reads files alone, and writes nothing.

Names that come with a request are looked for among those that are there, so that none leads out of the folder.
"""

import csv
import io
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, names_in, place
from cotuning_tune.base.tables import Table
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.records import read_facts, read_rows
from cotuning_tune.scores import ACCURACY, METRICS
from cotuning_tune.service.engine import Row
from cotuning_tune.service.problems import Unknown, WrongState

MOST_TRIAL = 10_000_000
ENDS = ("COMPLETE", "PRUNED", "FAIL")


def folder_of(run: Row) -> RunDir:
    """The folder of a run, whether it is there or not."""
    return RunDir(place(run["folder"]))


@lru_cache(maxsize=8192)
def _kept(path: Path, _changed: float, _size: int) -> dict[str, Any]:
    return dict(read_facts(path))


def _facts(path: Path) -> dict[str, Any]:
    """A record, read again once it has changed; empty where it is not there (yet). Raises WrongState for a damaged
    one."""
    try:
        found = path.stat()
        return _kept(path, found.st_mtime, found.st_size)
    except FileNotFoundError:
        return {}
    except (UserError, TypeError, ValueError) as problem:
        raise WrongState(str(problem), "the run's driver mends it, or 'cotuning-tune status' says more") from None


def _trial_row(number: int, trial: TrialDir) -> dict[str, Any]:
    """A trial by its own files; of one that has not ended, how far it is."""
    row = {"number": number, "values": _facts(trial.config).get("values", {})}
    if result := _facts(trial.result):
        told = {name: result.get(name) for name in ("loss", "epochs", "seconds", "reason")}
        return row | {"state": result["state"], "score": result.get("value"), **told}
    epochs = read_rows(trial.metrics)
    last = epochs[-1] if epochs else {}
    so_far = {"score": last.get("val_score"), "loss": last.get("val_loss"), "epochs": len(epochs)}
    return row | {"state": "RUNNING", **so_far, "seconds": sum(one.get("seconds", 0.0) for one in epochs), "reason": ""}


def _numbered(study: StudyDir) -> list[int]:
    return sorted(int(name) for name in names_in(study.path / "trials") if name.isdigit() and len(name) < 9)


def studies(run: Row) -> list[dict[str, Any]]:
    """Each study that has begun: its trials by state, the best validation score so far, its retrained seeds."""
    return [_study(found) for found in folder_of(run).study_folders()]


def _study(study: StudyDir) -> dict[str, Any]:
    told, chosen = _facts(study.summary), _facts(study.selection)
    trials = _trials(study, told)
    metric = METRICS.get(_metric(study, told or chosen), ACCURACY)
    scores = [one["score"] for one in trials if one["state"] == "COMPLETE" and one["score"] is not None]
    seeds = [name for name in names_in(study.path / "retrain") if _retrained(study, name).result.exists()]
    return {
        "study": study.name,
        "metric": metric.name,
        "trials": dict(Counter(one["state"] for one in trials)),
        "best_val_score": chosen.get("val_score", max(scores, key=metric.oriented, default=None)),
        "selected": chosen.get("trial"),
        "retrained": len(seeds),
        "ended": bool(told),
    }


def _metric(study: StudyDir, told: dict[str, Any]) -> str:
    """The name of its metric: as told, before that as its first trial has it."""
    if told or not (numbers := _numbered(study)):
        return str(told.get("metric", ""))
    specs = _facts(study.trial(numbers[0]).config).get("specs") or [{}]
    return str(specs[0].get("metric", ""))


def _retrained(study: StudyDir, seed: str) -> TrialDir:
    return TrialDir(study.path / "retrain" / seed)


def _trials(study: StudyDir, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Its trials: those of study.json once its search has ended, those with a folder before."""
    if told:
        return list(told["trials"])
    return [_trial_row(number, study.trial(number)) for number in _numbered(study)]


def _find(run: Row, name: str) -> StudyDir:
    for study in folder_of(run).study_folders():
        if study.name == name:
            return study
    raise Unknown(f"{run['name']} has no study {name[:100]!a}", "its studies are listed without a name")


def study(run: Row, name: str) -> dict[str, Any]:
    """A study with a row for each trial, what was chosen, and the results of retrained seeds. Raises Unknown."""
    found = _find(run, name)
    told = _facts(found.summary)
    seeds = sorted(names_in(found.path / "retrain"))
    results = [_facts(_retrained(found, seed).result) for seed in seeds]
    return {
        **_study(found),
        "trials": _trials(found, told),
        "confirmations": told.get("confirmations", []),
        "selection": _facts(found.selection) or None,
        "retrain": [result for result in results if result],
    }


def trial(run: Row, name: str, number: int) -> dict[str, Any]:
    """A trial: its configuration, every epoch so far, its result (None before it has one). Raises Unknown."""
    found = _find(run, name)
    if not 0 <= number <= MOST_TRIAL or number not in _numbered(found):
        raise Unknown(f"{name} has no trial {number}")
    folder = found.trial(number)
    config = _facts(folder.config)
    return {
        **_trial_row(number, folder),
        "study": name,
        "config": {key: config[key] for key in ("specs", "threads") if key in config},
        "history": read_rows(folder.metrics),
        "result": _facts(folder.result) or None,
    }


def report_files(run: Row) -> list[str]:
    """The names of the files of its report; none before it has one."""
    folder = folder_of(run).report
    return sorted(name for name in names_in(folder) if _plain(folder / name))


def report_file(run: Row, name: str) -> bytes:
    """A file of its report. Raises Unknown."""
    if not (files := report_files(run)):
        raise Unknown(f"{run['name']} has no report yet", "it is written when the run is done")
    if name not in files:
        raise Unknown(f"the report of {run['name']} has no file {name[:100]!a}", "its files are listed without a name")
    return (folder_of(run).report / name).read_bytes()


def _plain(path: Path) -> bool:
    """Whether it is a file itself, no link and no folder."""
    return path.is_file() and not (is_local(path) and path.is_symlink())


def tables(run: Row) -> list[Table]:
    """How far its studies are; and the tables of its report, once it has one."""
    rows = []
    for one in studies(run):
        best = "-" if one["best_val_score"] is None else f"{one['best_val_score']:.2f}"
        counts = [str(one["trials"].get(state, 0)) for state in (*ENDS, "RUNNING")]
        rows.append([one["study"], *counts, best, str(one["retrained"])])
    header = ["study", "complete", "pruned", "failed", "running", "best val. score", "retrained"]
    found = [Table("status", "Status", header, rows)]
    for name in report_files(run):
        if name.endswith(".csv"):
            read = list(csv.reader(io.StringIO(report_file(run, name).decode("utf-8", "replace"))))
            found += [Table(name[:-4], name[:-4], read[0], read[1:])] if read else []
    return sorted(found, key=lambda table: (table.name != "status", table.name != "main"))
