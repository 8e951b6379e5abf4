"""The experiment's command at a driver's end."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.experiment import read_experiment
from cotuning_tune.launch import Request
from cotuning_tune.runs import on_end
from cotuning_tune.runs.events import Checked, Ended, Event, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.on_end import OnEnd, run_on_end
from cotuning_tune.runs.stream import Stream
from cotuning_tune.runs.summary import Summary
from cotuning_tune.search.driver import create_run
from tests.launch.test_local import EXPERIMENT
from tests.search.kills import wait_for

COMMAND = 'echo "$COTUNING_TUNE_STATE $COTUNING_TUNE_RUN $COTUNING_TUNE_SUMMARY" >> "$COTUNING_TUNE_RUN/ended"'


def test_it_finds_run_and_state(driven: RunDir) -> None:
    """The command is said before it runs, and finds the run's address, its state and its summary."""
    notes: list[str] = []
    run_on_end(COMMAND, driven, "done", notes.append)
    assert (driven.path / "ended").read_text() == f"done {driven.path} {driven.summary}\n"
    assert notes == [f"the run is done; on_end: {COMMAND}"]


@pytest.mark.parametrize("command", ["exit 3", "no-such-command-here 2> /dev/null", "kill -9 $$"])
def test_its_failure_is_a_note(driven: RunDir, command: str) -> None:
    """One line that tells the code, and no error."""
    notes: list[str] = []
    run_on_end(command, driven, "failed", notes.append)
    assert len(notes) == 2
    assert notes[1].startswith("on_end has ended with code ")


def test_it_is_ended_after_its_time(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that it has started: nothing writes any more."""
    monkeypatch.setattr(on_end, "LIMIT_S", 0.3)
    notes: list[str] = []
    pipe = driven.path / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as left:
        run_on_end('sleep 600 > "$COTUNING_TUNE_RUN/pipe" & wait', driven, "done", notes.append)
        assert notes[1] == "on_end has taken more than 0 s and was ended"
        wait_for(lambda: left.read(1) == b"", None, "nobody who could write")  # None while there is one


def _ended(run: RunDir, command: str, **replaced: bool) -> list[Event]:
    """The events of a run that ends with that command, the newest driver's or a replaced one's; it ends twice."""
    seen: list[Event] = []
    stream = Stream(run, [Summary(), lambda event, now: seen.append(event), OnEnd(command, allowed=True)])
    stream.tell(Checked({run.name: Standing()}))
    if replaced:
        run.raise_incarnation()
    stream.end("failed", "no luck")
    stream.end("done")
    return seen


def test_once_after_the_last_write(driven: RunDir) -> None:
    """At its call the summary tells the end already; a second end calls nothing."""
    seen = _ended(driven, 'cp "$COTUNING_TUNE_SUMMARY" "$COTUNING_TUNE_RUN/seen"; echo once >> "$COTUNING_TUNE_RUN/n"')
    assert json.loads((driven.path / "seen").read_text())["state"] == "failed"
    assert (driven.path / "n").read_text() == "once\n"
    assert [event for event in seen if isinstance(event, Ended)] == [Ended("failed", "no luck")]


def test_not_for_a_replaced_driver(driven: RunDir) -> None:
    """The newer driver's end is the run's end."""
    _ended(driven, 'touch "$COTUNING_TUNE_RUN/ended"', replaced=True)
    assert not (driven.path / "ended").exists()


def test_the_user_decides(tmp_path: Path, call: Callable[..., tuple[int, list[str], list[str]]]) -> None:
    """The command of a file runs only with --on-end, also where the driver fails; without it a note shows it."""
    keys = f"on_end = '''{COMMAND}'''\n"
    path, ended = tmp_path / "tiny.toml", tmp_path / "tiny" / "ended"
    path.write_text(EXPERIMENT.replace("[experiment]", f"[experiment]\n{keys}"))
    run = create_run(read_experiment(path), tmp_path, [])
    run.experiment_file.write_text(path.read_text().replace("[experiment]", "[experiment]\nweights = 'gone.pth'"))
    code, out, _ = call("resume", run.path)
    assert (code, out) == (2, [f"note: on_end is not run without --on-end: {COMMAND}"])
    assert not ended.exists()
    code, out, _ = call("resume", run.path, "--on-end")
    announced = f"note: on_end, run when this ends: {COMMAND}"
    assert (code, out) == (2, [announced, f"note: the run is failed; on_end: {COMMAND}"])
    assert ended.read_text().startswith("failed ")
    told = json.loads(run.summary.read_text())
    assert told["state"] == "failed"
    assert told["reason"] == "tiny_cnn has no weights to read: omit weights"


def test_a_launch_keeps_the_decision(tmp_path: Path) -> None:
    """The entry's command says --on-end where the user said it at the launch, and only there."""
    for decided in (True, False):
        request = Request(tmp_path / "e.toml", "e", "/runs", "", None, tmp_path, decided)
        assert ("--on-end" in request.entry("python", "e.toml")) is decided
