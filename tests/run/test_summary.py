"""``summary.json``: current, rate-limited, its last state always written, never by a driver that was replaced."""

import json
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import read_json
from cotuning_tune.runs import summary as module
from cotuning_tune.runs.events import Checked, EpochEnded, StageStarted, Standing, TrialStarted
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream
from cotuning_tune.runs.summary import Summary, standing_of
from tests.report.synthetic import write_run


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


def _stream(run: RunDir, **searches: Standing) -> Stream:
    """The stream of a run's newest driver, watched by a summary, once everything has been checked."""
    stream = Stream(run, [Summary()])
    stream.tell(Checked(searches or {run.name: Standing()}))
    return stream


def _stage(stream: Stream, standing: Standing, run: RunDir | None = None, **values: Any) -> None:
    run = run or stream.run
    stream.tell(StageStarted(run.name, str(run.path), run.read_incarnation(), standing, **values))


def test_the_last_state_is_written(driven: RunDir) -> None:
    """After the end the file holds the last change and how it ended; nothing runs any more."""
    stream = _stream(driven)
    standing = Standing(
        budget=8,
        trials={"study": {"complete": 3, "pruned": 3, "failed": 2}},
        best={"study": 81.5},
        retrained=2,
        retrain_budget=2,
        search_seconds=7200.0,
        retrain_seconds=3600.0,
    )
    _stage(stream, standing, gpus=0.5)
    stream.tell(TrialStarted("study", 8, {}, 8))
    _stage(stream, replace(standing, stage="report"), gpus=0.5)
    stream.end("done")
    stream.tell(TrialStarted("study", 9, {}, 9))
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
    stream = _stream(driven)
    for number in range(1, 1001):
        stream.tell(TrialStarted("study", 0, {}, number))
    stream.end("done")
    assert len(written) <= 3
    assert written[-1]["budget"] == 1000


def test_it_is_current_while_it_runs(driven: RunDir) -> None:
    """A change is in the file soon, without an end."""
    stream = _stream(driven)
    stream.tell(TrialStarted("study", 0, {}, 3))
    while not (driven.summary.exists() and _read(driven)["budget"] == 3):
        time.sleep(0.05)
    assert (_read(driven)["state"], _read(driven)["running"]) == ("running", 1)
    stream.end("done")


def test_a_replaced_driver_writes_nothing(driven: RunDir) -> None:
    """Once a newer driver has begun, the older one's end does not touch the newer one's file."""
    old = _stream(driven)
    driven.raise_incarnation()
    newer = _stream(driven, **{driven.name: Standing(budget=5)})
    newer.end("done")
    old.end("failed")
    content = _read(driven)
    assert (content["state"], content["budget"], content["restarts"]) == ("done", 5, 1)


def test_without_the_lock_nothing_is_written(driven: RunDir) -> None:
    """A driver that is refused before it begins leaves no summary, and none is made where the run has vanished."""
    refused = Stream(driven, [Summary()])
    refused.notice("a line")
    refused.end("failed", "being worked on")
    assert not driven.summary.exists()
    driven.experiment_file.unlink()
    _stream(driven).end("done")
    assert not driven.summary.exists()


def test_a_full_disk_ends_no_run(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is left out."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    _stream(driven).end("done")
    assert not driven.summary.exists()


def test_a_storage_that_is_away_keeps_no_driver(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for the last write, but not for ever."""
    back = threading.Event()
    monkeypatch.setattr(module, "LAST_S", 0.1)
    monkeypatch.setattr(module, "write_json", lambda *_, **__: back.wait())
    summary = Summary()
    stream = Stream(driven, [summary])
    stream.tell(Checked({driven.name: Standing()}))
    stream.end("done")
    assert summary._thread is not None
    assert summary._thread.is_alive()
    back.set()
    summary._thread.join()


def test_a_copy_writes_nothing(driven: RunDir) -> None:
    """Tune pickles what a driver gives it; nobody watches the copy."""
    stream = _stream(driven, **{driven.name: Standing(budget=2)})
    copy = pickle.loads(pickle.dumps(stream))
    copy.tell(Checked({driven.name: Standing(budget=7)}))
    copy.end("failed")
    stream.end("done")
    assert (_read(driven)["state"], _read(driven)["budget"]) == ("done", 2)


def test_a_run_tells_where_it_stands(tmp_path: Path) -> None:
    """Of an ended search and its retraining the figures are those of the files; damaged ones tell nothing."""
    run = write_run(tmp_path / "run", methods=2, seeds=2, trials=4, selection="max")
    names = [study.name for study in run.study_folders()]
    studies = [read_json(study.summary)["trials"] for study in run.study_folders()]
    found = standing_of(run, [*names, "not-yet"], 4, (0, 1))
    assert found.budget == 4 * (len(studies) + 1)
    assert found.done == sum(map(len, studies))
    assert found.failed == sum(trial["state"] == "FAIL" for trials in studies for trial in trials)
    assert found.search_seconds == pytest.approx(sum(t["seconds"] for trials in studies for t in trials))
    assert (found.retrained, found.retrain_budget) == (2 * len(studies), 2 * len(studies) + 2)
    assert found.best == {study.name: read_json(study.selection)["val_score"] for study in run.study_folders()}
    run.study(names[0]).summary.write_text("{")
    damaged = standing_of(run, names, 4, (0, 1))
    assert damaged == Standing(budget=4 * len(studies), retrain_budget=2 * len(studies))


def test_confirmations_are_counted(tmp_path: Path) -> None:
    """Ended on another split they are done, use time, and belong to the budget of their study."""
    run = write_run(tmp_path / "run", methods=2, seeds=2, trials=4, selection="max")
    names = [study.name for study in run.study_folders()]
    before = standing_of(run, [*names, "not-yet"], 7, (0, 1))
    study = run.study(names[0])
    again = [{"state": state, "seconds": 60.0} for state in ("COMPLETE", "FAIL")]
    study.summary.write_text(json.dumps(read_json(study.summary) | {"confirmations": again}))
    found = standing_of(run, [*names, "not-yet"], 7, (0, 1))
    assert (before.budget, found.budget) == (4 * len(names) + 7, 4 * len(names) + 7 + 2)
    assert (found.done - before.done, found.failed - before.failed) == (2, 1)
    assert found.search_seconds - before.search_seconds == pytest.approx(120)


def test_repeats_are_counted_together(driven: RunDir) -> None:
    """A repeat's trials, seeds and hours are added to the run's; its best stand beside them with its name."""
    repeat = RunDir(driven.path / "repeats" / "again")
    begun = Standing(budget=4, retrain_budget=2)
    summary = Summary()
    stream = Stream(driven, [summary])
    stream.tell(Checked({driven.name: begun, repeat.name: begun}))
    first = replace(begun, stage="retrain", trials={"study": {"complete": 4}}, best={"study": 70.0}, retrained=2)
    _stage(stream, replace(first, search_seconds=3600.0), gpus=1.0)
    again = replace(begun, trials={"study": {"complete": 3}}, best={"study": 72.0}, search_seconds=1800.0)
    _stage(stream, again, repeat, gpus=1.0)
    stream.tell(TrialStarted("study", 3, {}, 4))
    stream.tell(EpochEnded("study", 3, [], 1, 4))
    now = summary.content(stream)
    assert (now["phase"], now["done"], now["budget"], now["running"]) == ("search", 7, 8, 1)
    assert (now["retrained"], now["retrain_budget"], now["gpu_hours"]) == (2, 4, 1.5)
    assert now["best"] == {"study": 70.0, "again/study": 72.0}
    assert stream.standing.share == 0.25
    stream.end("done")
    assert _read(driven)["restarts"] == 0
