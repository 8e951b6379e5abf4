"""``summary.json``: current, rate-limited, its last state always written, never by a driver that was replaced."""

import json
import pickle
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.run import summary as module
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.summary import Standing, Summary, kept_summary, standing_of
from tests.report.synthetic import write_run


def _one(run: RunDir, **values: Any) -> dict[str, Standing]:
    """Where the one search of a run stands."""
    return {run.name: Standing(**values)}


def _read(driven: RunDir) -> dict[str, Any]:
    content: dict[str, Any] = read_json(driven.summary)
    return content


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What has been written so far."""
    contents: list[dict[str, Any]] = []

    def write(path: Path, content: dict[str, Any], *, durable: bool) -> None:
        contents.append(content)
        path.write_text(json.dumps(content))

    monkeypatch.setattr(module, "write_json", write)
    return contents


def test_the_last_state_is_written(driven: RunDir) -> None:
    """After the end the file holds the last change and how it ended; nothing runs any more."""
    with kept_summary(driven) as told:
        told.begin(1, _one(driven, budget=8, retrain_budget=2))
        told.turn_to(driven, 1, 0.5)
        told.change(done=7, running=1, failed=2, best={"study": 81.5}, search_seconds=7200.0)
        told.change(phase="report", done=8, retrained=2, retrain_seconds=3600.0)
    told.change(done=9)
    content = _read(driven)
    assert (content["state"], content["reason"], content["phase"]) == ("done", "", "report")
    assert (content["done"], content["budget"], content["failed"], content["running"]) == (8, 8, 2, 0)
    assert (content["retrained"], content["retrain_budget"], content["best"]) == (2, 2, {"study": 81.5})
    assert (content["trial_hours"], content["gpu_hours"], content["restarts"]) == (3.0, 1.5, 0)
    assert content["started"] <= content["updated"] <= time.time()


def test_many_changes_are_few_writes(
    driven: RunDir, written: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand changes within ``EVERY_S`` are written once or twice, and the last of them is there at the end."""
    monkeypatch.setattr(module, "EVERY_S", 600.0)
    with kept_summary(driven) as told:
        told.begin(1, _one(driven))
        for number in range(1, 1001):
            told.change(done=number)
    assert len(written) <= 3
    assert written[-1]["done"] == 1000


def test_it_is_current_while_it_runs(driven: RunDir) -> None:
    """A change is in the file soon, without an end."""
    told = Summary(driven)
    told.begin(1, _one(driven))
    told.change(done=3)
    while not (driven.summary.exists() and _read(driven)["done"] == 3):
        time.sleep(0.05)
    assert _read(driven)["state"] == "running"
    told.end("done")


def _end_by(driven: RunDir, problem: BaseException) -> None:
    with kept_summary(driven) as told:
        told.begin(1, _one(driven))
        raise problem


@pytest.mark.parametrize(
    ("problem", "state", "reason"),
    [
        (Unfinished("the search was interrupted"), "unfinished", "the search was interrupted"),
        (KeyboardInterrupt("SIGTERM"), "unfinished", "interrupted by SIGTERM"),
        (KeyboardInterrupt(), "unfinished", "interrupted"),
        (UserError("no such thing"), "failed", "no such thing"),
        (ValueError("odd\nand more"), "failed", "ValueError: odd"),
    ],
)
def test_how_it_ended(driven: RunDir, problem: BaseException, state: str, reason: str) -> None:
    """Signals leave it unfinished, mistakes and faults failed, each with one line; the exception goes on."""
    with pytest.raises(type(problem)):
        _end_by(driven, problem)
    assert (_read(driven)["state"], _read(driven)["reason"]) == (state, reason)


def test_a_replaced_driver_writes_nothing(driven: RunDir) -> None:
    """Once a newer driver has begun, the older one's end does not touch the newer one's file."""
    with kept_summary(driven) as old:
        old.begin(1, _one(driven, done=1))
        newer = Summary(driven)
        newer.begin(driven.raise_incarnation(), _one(driven, done=5))
        newer.end("done")
    content = _read(driven)
    assert (content["state"], content["done"], content["restarts"]) == ("done", 5, 1)


def test_without_the_lock_nothing_is_written(driven: RunDir) -> None:
    """A driver that is refused before it begins leaves no summary, and none is made where the run has vanished."""
    with pytest.raises(UserError), kept_summary(driven):
        raise UserError("being worked on")
    assert not driven.summary.exists()
    driven.experiment_file.unlink()
    with kept_summary(driven) as told:
        told.begin(1, _one(driven))
    assert not driven.summary.exists()


def test_a_full_disk_ends_no_run(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is left out."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with kept_summary(driven) as told:
        told.begin(1, _one(driven))
    assert not driven.summary.exists()


def test_a_storage_that_is_away_keeps_no_driver(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for the last write, but not for ever."""
    back = threading.Event()
    monkeypatch.setattr(module, "LAST_S", 0.1)
    monkeypatch.setattr(module, "write_json", lambda *_, **__: back.wait())
    with kept_summary(driven) as told:
        told.begin(1, _one(driven))
    assert told._thread.is_alive()
    back.set()
    told._thread.join()


def test_a_copy_writes_nothing(driven: RunDir) -> None:
    """Tune pickles what a driver gives it; the copy has not begun."""
    told = Summary(driven)
    told.begin(1, _one(driven, done=2))
    copy = pickle.loads(pickle.dumps(told))
    copy.change(done=7)
    copy.end("failed")
    told.end("done")
    assert (_read(driven)["state"], _read(driven)["done"]) == ("done", 2)


def test_a_run_tells_where_it_stands(tmp_path: Path) -> None:
    """Of an ended search and its retraining the figures are those of the files; damaged ones tell nothing."""
    run = write_run(tmp_path / "run", methods=2, seeds=2, trials=4)
    names = [study.name for study in run.study_folders()]
    studies = [read_json(study.summary)["trials"] for study in run.study_folders()]
    found = standing_of(run, _experiment([*names, "not-yet"]))
    assert found.budget == 4 * (len(studies) + 1)
    assert found.done + found.failed == sum(map(len, studies))
    assert found.search_seconds == pytest.approx(sum(t["seconds"] for trials in studies for t in trials))
    assert (found.retrained, found.retrain_budget) == (2 * len(studies), 2 * len(studies) + 2)
    assert found.best == {study.name: read_json(study.selection)["val_accuracy"] for study in run.study_folders()}
    run.study(names[0]).summary.write_text("{")
    damaged = standing_of(run, _experiment(names))
    assert damaged == Standing(budget=4 * len(studies), retrain_budget=2 * len(studies))


def _experiment(studies: list[str]) -> SimpleNamespace:
    config = SimpleNamespace(trials=4, seeds=(0, 1))
    return SimpleNamespace(config=config, studies=[SimpleNamespace(name=name) for name in studies])


def test_repeats_are_counted_together(driven: RunDir) -> None:
    """A repeat's trials, seeds and hours are added to the run's; its best stand beside them with its name."""
    repeat = RunDir(driven.path / "repeats" / "again")
    with kept_summary(driven) as told:
        told.begin(1, _one(driven, budget=4, retrain_budget=2) | _one(repeat, budget=4, retrain_budget=2))
        told.turn_to(driven, 1, 1.0)
        told.change(done=4, best={"study": 70.0}, retrained=2, search_seconds=3600.0, phase="retrain")
        told.turn_to(repeat, 7, 1.0)
        told.change(done=3, best={"study": 72.0}, search_seconds=1800.0, running=1)
        now = told.content()
    assert (now["phase"], now["done"], now["budget"], now["running"]) == ("search", 7, 8, 1)
    assert (now["retrained"], now["retrain_budget"], now["gpu_hours"]) == (2, 4, 1.5)
    assert now["best"] == {"study": 70.0, "again/study": 72.0}
    assert _read(driven)["restarts"] == 0
