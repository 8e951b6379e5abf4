"""The terminal as an observer: the lines that a user sees of a run's events."""

import pytest

from cotuning_tune.base import console
from cotuning_tune.pipeline.terminal import Terminal
from cotuning_tune.runs.events import (
    Checked,
    EpochEnded,
    SeedEnded,
    SeedStarted,
    ShareChanged,
    StageStarted,
    Standing,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until a test moves it."""
    clock = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def stream(driven: RunDir) -> Stream:
    made = Stream(driven, [Terminal()])
    made.tell(Checked({driven.name: Standing()}))
    return made


def _search(stream: Stream) -> None:
    standing = Standing(budget=4, trials={"a": {}, "b": {}})
    stream.tell(StageStarted(stream.run.name, "runs/x", 1, standing, concurrent=2))


def test_as_many_running_as_run(stream: Stream, now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Where a trial ends its successor starts at once: the line never shows a place of two that is free."""
    _search(stream)
    stream.tell(TrialStarted("a", 0, {}, 4))
    stream.tell(TrialStarted("b", 0, {}, 4))
    for trial, study in ((0, "a"), (0, "b")):
        now[0] += 60
        stream.tell(TrialEnded(study, trial, "COMPLETE", 50.0, 1.0, 50.0))
        stream.tell(TrialStarted(study, 1, {}, 4))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("search: ")]
    assert [line.split(" · ")[:2] for line in lines] == [
        ["search: 0/4", "0 running"],
        ["search: 1/4", "2 running"],
        ["search: 2/4", "2 running"],
    ]


def test_a_share_that_changes(stream: Stream, now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A note says how many run at a time from then on."""
    _search(stream)
    stream.tell(ShareChanged(1))
    assert capsys.readouterr().out.splitlines()[-1] == "note: 1 at a time from now on"


def test_a_search_of_hours(stream: Stream, now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The first line and the progress line say for how long there will be new trials."""
    begun = Standing(budget=2, until=now[0] + 7200, trials={"a": {}, "b": {}})
    stream.tell(StageStarted(stream.run.name, "runs/x", 1, begun, concurrent=1))
    now[0] += 1800
    stream.tell(TrialEnded("a", 0, "COMPLETE", 50.0, 1.0, 50.0))
    stream.tell(TrialStarted("b", 0, {}, 2, begun.until))
    now[0] += 7200
    stream.tell(TrialEnded("b", 0, "COMPLETE", 50.0, 1.0, 50.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs/x: 2 studies, new trials for 2 h 00 min, 1 at a time"
    assert [line.split(" · ")[0] for line in lines[1:]] == ["search: 0/2", "search: 1/2", "search: 2/2"]
    ends = [line.rpartition(" · ")[2] for line in lines[1:]]
    assert ends == ["new trials for 2 h 00 min", "new trials for 1 h 30 min", "took 2 h 30 min"]


def test_the_last_trials(stream: Stream, now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Towards the end fewer run; the last end is shown although nothing follows it."""
    _search(stream)
    for trial in range(4):
        stream.tell(TrialStarted("a", trial, {}, 4))
    for trial in range(4):
        now[0] += 60
        stream.tell(TrialEnded("a", trial, "COMPLETE", 50.0, 1.0, 50.0))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "search: 4/4 · 0 running · best val. 50.00 % (a) · took 4 min"


def test_a_time_after_the_second_epoch(
    stream: Stream, now: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of eight epochs of each of two trials a minute: a quarter of four trials a minute, so 14 more after two."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    _search(stream)
    stream.tell(TrialStarted("a", 0, {}, 4))
    stream.tell(TrialStarted("b", 0, {}, 4))
    for _ in range(2):
        now[0] += 60
        stream.tell(EpochEnded("a", 0, [], 1, 8))
        stream.tell(EpochEnded("b", 0, [], 1, 8))
    shown = [line.rstrip().rpartition(" · ")[2] for line in capsys.readouterr().out.split("\r")]
    assert shown[-1] == "ETA 14 min"
    assert shown[-3] == "ETA unknown"


def test_seeds_and_repeats(driven: RunDir, now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Which search of how many it is, what ended last, how it tested; a failure with its reason."""
    repeat = RunDir(driven.path / "repeats" / "again")
    stream = Stream(driven, [Terminal()])
    stream.tell(Checked({driven.name: Standing(), repeat.name: Standing()}))
    begun = Standing(stage="retrain", retrain_budget=2)
    stream.tell(StageStarted(repeat.name, "runs/x/repeats/again", 1, begun, concurrent=1))
    stream.tell(SeedStarted("a", 0))
    stream.tell(SeedEnded("a", 0, 81.25, 1.0))
    now[0] += 20
    stream.tell(SeedStarted("a", 1))
    stream.tell(SeedEnded("a", 1, None, 1.0, "loss is nan"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs/x/repeats/again: 2 seeds, 1 at a time"
    assert lines[2] == "retrain 2/2: 1/2 · 1 running · a seed 0: test 81.25 % · ETA 20 s"
    assert lines[3] == "retrain 2/2: 2/2 · 0 running · a seed 1 failed: loss is nan · took 20 s"


def test_where_lines_go(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    """Notices on standard output; what the run waits for and what is wrong on standard error."""
    stream.notice("a note")
    stream.tell(Waiting("paused: the disk is full"))
    out, err = capsys.readouterr()
    assert out == "note: a note\n"
    assert err == "cotuning-tune: paused: the disk is full\n"
