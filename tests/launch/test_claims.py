"""Whoever starts a run dies between every two steps of it: no run is driven twice, none unknown to its record."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import Launch, Request, find_launch, launch, relaunch, settled, state_of, stop
from cotuning_tune.launch.backends import local
from cotuning_tune.launch.backends.local import LocalBackend, LocalProfile
from cotuning_tune.launch.claim import CLAIMING, claim_of, claimed
from cotuning_tune.launch.record import Launch as Record
from cotuning_tune.launch.record import all_launches
from cotuning_tune.launch.verbs import NOT_STARTED, _alone
from cotuning_tune.runs.lock import started_at
from tests.launch import stand_in

# Drivers outlive whoever has launched them.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
KILLS = 30
RUNS = ("a", "b", "c")


class Died(BaseException):
    """The death of whoever starts."""


def _python(folder: Path, seconds: float) -> str:
    """An interpreter whose entry point is the stand-in."""
    path = folder / "python"
    if not path.exists():  # one that is written meanwhile cannot be executed
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {stand_in.__file__} {folder} {seconds} "$@"\n')
        path.chmod(0o700)
    return str(path)


def _request(folder: Path, name: str = "tiny", seconds: float = 600) -> Request:
    profile = LocalProfile(python=_python(folder, seconds))
    return Request(folder / "tiny.toml", name, str(folder / "runs"), "", profile, folder / "launches" / name)  # type: ignore[arg-type]


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _living(folder: Path) -> dict[str, int]:
    """The drivers that work, by their run."""
    return {run: int(pid) for run, pid, since in _lines(folder / "starts") if started_at(int(pid)) == since}


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it all lies; whatever drives at the end is killed."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    (tmp_path / "tiny.toml").write_text("[experiment]\n")
    yield tmp_path
    for pid in _living(tmp_path).values():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process that is started for a driver."""
    found: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remembered(*words: Any, **more: Any) -> subprocess.Popen[bytes]:
        found.append(popen(*words, **more))
        return found[-1]

    monkeypatch.setattr(local.subprocess, "Popen", remembered)
    yield found
    for process in found:
        process.kill()
        process.wait()


def _dying(call: Callable[..., Any], number: int, after: bool) -> Callable[..., Any]:
    """The call, but whoever makes it that often dies before or after it."""
    left = [number]

    def dying(*words: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Died
        done = call(*words, **more)
        if left[0] == 0:
            raise Died
        return done

    return dying


STEPS = {
    "before the record": (Record, "save", 1, False),
    "after the record": (Record, "save", 1, True),
    "before the engine": (LocalBackend, "start", 1, False),
    "before the claim is looked for": (local, "_facts", 1, False),
    "after the claim was looked for": (local, "_facts", 1, True),
    "after the engine": (LocalBackend, "start", 1, True),
    "before the facts": (Record, "save", 2, False),
    "after the facts": (Record, "save", 2, True),
}


def _die(step: str, call: Callable[[], object]) -> None:
    """Make the call, and die in that step of it."""
    owner, name, number, after = STEPS[step]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, _dying(getattr(owner, name), number, after))
        with pytest.raises(Died):
            call()


def _claimers(folder: Path) -> list[int]:
    """The processes that have a claim."""
    return [int(path.read_text().split()[0]) for path in folder.glob("launches/*/attempts/*")]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_death_in_every_step(folder: Path, spawned: list[subprocess.Popen[bytes]], step: str, attempt: int) -> None:
    """Of the first start as of a further one: looked for and started again as often as one likes, one driver works."""
    if attempt == 2:
        first = launch("local", _request(folder))
        _until(lambda: _living(folder))
        os.kill(_living(folder)["tiny"], signal.SIGKILL)
        _until(lambda: not _living(folder))
        assert state_of(first) == "failed"
    _die(step, lambda: launch("local", _request(folder)))
    with suppress(UserError):  # it is running
        launch("local", _request(folder))
    with pytest.raises(UserError, match="'tiny' is running: stop it first"):
        launch("local", _request(folder))
    made = find_launch("tiny")
    others = [process for process in spawned if process.pid not in _claimers(folder)]
    assert [process.wait(60) for process in others] == [0] * len(others)
    _until(lambda: _living(folder))
    assert _living(folder) == {"tiny": made.facts["pid"]}
    assert len(_lines(folder / "starts")) == made.attempt == attempt
    assert not (folder / "doubles").exists()
    assert state_of(made) == "running"


def test_the_verbs_after_a_death(folder: Path, call: Callable[..., Any]) -> None:
    """A record of a start that never was: nothing runs, nothing is to be read; a living one is found and stopped."""
    _die("before the engine", lambda: launch("local", _request(folder)))
    assert call("launch", "status")[1][0].startswith(f"tiny: {NOT_STARTED} (local")
    assert call("launch", "stop")[1] == ["tiny: nothing is running"]
    assert call("launch", "logs")[::2] == (
        2,
        ["cotuning-tune: 'tiny' has not been started: cotuning-tune launch resume tiny"],
    )
    _die("after the engine", lambda: relaunch(find_launch("tiny")))
    assert find_launch("tiny").starting
    _until(lambda: _living(folder))
    assert call("launch", "status")[1][0].startswith("tiny: running (local")
    assert find_launch("tiny").facts["pid"] == _living(folder)["tiny"]
    assert stop(find_launch("tiny")) == "stopped cleanly; nothing is lost"


def test_while_it_is_started(folder: Path) -> None:
    """Another process's start is waited for by nobody: its state is told, a second start and a stop are refused."""
    _die("before the engine", lambda: launch("local", _request(folder)))
    found = find_launch("tiny")
    with _alone("tiny", found.folder):
        assert state_of(found) == "starting"
        for refused in (lambda: stop(found), lambda: relaunch(found)):
            with pytest.raises(UserError, match="'tiny' is being started at this moment: wait for it"):
                refused()


def test_what_is_refused_leaves_no_attempt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where surely nothing has been started the record is what it was before, or none."""

    def refuse(*_: Any) -> None:
        raise UserError("no")

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "start", refuse)
        with pytest.raises(UserError, match="no"):
            launch("local", _request(folder))
        assert not all_launches()
        ended = Launch("tiny", "local", "x", str(folder / "runs"), {}, {"pid": 1, "since": "", "machine": ""}, id="old")
        ended.save()
        with pytest.raises(UserError, match="no"):
            launch("local", _request(folder))
    assert find_launch("old") == find_launch("tiny")
    assert (find_launch("tiny").attempt, find_launch("tiny").starting) == (1, False)


def test_records_below_another_folder(folder: Path) -> None:
    """A record knows its folder: several people's launches lie apart from the user's own, found by name and by id."""
    request = _request(folder)
    made = Launch("tiny", "local", "x", "/runs", {}, id="0123456789", home=str(request.folder.parent / "other" / "one"))
    made.folder.mkdir(parents=True)
    made.save()
    assert all_launches() == []
    below = request.folder.parent / "other"
    assert all_launches(below) == [find_launch("tiny", below)] == [find_launch("0123456789", below)] == [made]
    assert made.attempt_name == "ct-0123456789-1"
    assert settled(made) == made


def test_a_claim_is_made_once(tmp_path: Path) -> None:
    """Of many at once one becomes the command, under its own number; the others end with 0 and say nothing."""
    claim = claim_of(tmp_path / "it's $HOME", "ct-x-7")
    command = [
        "sh",
        "-c",
        CLAIMING,
        str(claim),
        "sh",
        "-c",
        f'echo $$ "$@" >>"{tmp_path}/out"; exit 3',
        "-",
        "a b",
        "*",
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(8)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert sorted(process.returncode for process in processes) == [0] * 7 + [3]
    assert said == [b""] * 8
    (winner,) = [process.pid for process in processes if process.returncode == 3]
    assert (tmp_path / "out").read_text() == f"{winner} a b *\n"
    assert claimed(tmp_path / "it's $HOME", "ct-x-7").split()[0] == str(winner)
    assert [path.name for path in claim.parent.iterdir()] == ["ct-x-7"]


def test_a_claim_that_cannot_be_made(folder: Path) -> None:
    """It is one line, and nothing is started."""
    request = _request(folder)
    request.folder.mkdir(parents=True)
    (request.folder / "attempts").write_text("")
    with pytest.raises(UserError, match=r"attempts/ct-\w+-1 cannot be written: see the end of .*log"):
        launch("local", request)
    assert not all_launches()
    assert not _lines(folder / "starts")


STARTING = """
import random, subprocess, sys, time
from pathlib import Path
from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import launch
from cotuning_tune.launch.backends import local
from cotuning_tune.launch.record import Launch
from tests.launch.test_claims import RUNS, _request

def widened(call):
    def slow(*words, **more):
        time.sleep(random.random() * 0.04)
        done = call(*words, **more)
        time.sleep(random.random() * 0.04)
        return done
    return slow

Launch.save = widened(Launch.save)
subprocess.Popen = widened(subprocess.Popen)
print("up", flush=True)
while True:
    for name in RUNS:
        try:
            launch("local", _request(Path(sys.argv[1]), name, 0.3))
        except UserError as problem:
            assert "is running" in str(problem), problem
    time.sleep(0.02)
"""


@pytest.mark.proof
def test_a_storm(folder: Path) -> None:
    """Whoever starts is killed again and again; drivers end by themselves meanwhile: none is doubled, none unknown."""
    dice, _ = random.Random(1), _python(folder, 0.3)
    for _ in range(KILLS):
        command = [sys.executable, "-c", STARTING, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n", process.stderr.read() if process.stderr else ""
            time.sleep(dice.uniform(0.02, 0.8))
            assert process.poll() is None
            process.kill()
        living = _living(folder)
        records = {found.name: settled(found) for found in all_launches()}
        assert {run: records[run].facts["pid"] for run in living} == living
    starts = _lines(folder / "starts")
    assert not (folder / "doubles").exists()
    assert len(starts) > len(RUNS)
    assert {int(pid) for _, pid, _ in starts} <= set(_claimers(folder))
