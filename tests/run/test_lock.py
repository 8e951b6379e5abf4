"""One driver a run: who holds the lock, and when it is taken over."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_json
from cotuning_tune.runs import lock
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import driver_lock, holder

HOLD = """
import sys
from pathlib import Path
from cotuning_tune.runs.lock import driver_lock
from cotuning_tune.runs.folder import RunDir
with driver_lock(RunDir(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


@pytest.fixture
def driver(run: RunDir) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def _write_owner(run: RunDir, **changed: object) -> None:
    """A lock file as this process would write it, with some entries changed."""
    write_json(run.lock, {**lock._owner(), **changed})


def test_free(run: RunDir) -> None:
    """A run without lock file has no driver."""
    assert holder(run) is None


def test_held_inside_and_free_after(run: RunDir) -> None:
    """Inside the block this process is the driver; after it nobody is, and no lock file is left."""
    with driver_lock(run):
        owner = holder(run)
        assert owner
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert holder(run) is None
    assert not run.lock.exists()


def test_freed_by_an_error(run: RunDir) -> None:
    """An exception inside the block frees the run."""
    with pytest.raises(RuntimeError, match="boom"), driver_lock(run):
        raise RuntimeError("boom")
    assert holder(run) is None


def test_a_second_driver_is_refused(run: RunDir, driver: subprocess.Popen[str]) -> None:
    """While a driver lives a second one is refused with its user, host, process and age."""
    with pytest.raises(UserError) as caught, driver_lock(run):
        pass
    message = str(caught.value)
    owner = json.loads(run.lock.read_text())
    parts = [owner["user"], socket.gethostname(), f"process {driver.pid}"]
    assert [part for part in parts if part not in message] == []
    assert holder(run) == owner


def test_a_killed_driver_is_replaced_at_once(run: RunDir, driver: subprocess.Popen[str]) -> None:
    """The lock of a killed process of this host is taken over without waiting."""
    driver.kill()
    os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not looked yet
    assert run.lock.exists()
    assert holder(run) is None
    with driver_lock(run):
        assert holder(run)


def test_processes_differ_by_their_start(driver: subprocess.Popen[str]) -> None:
    """A process that started later has a later start."""
    starts = [lock.started_at(pid) for pid in (os.getpid(), driver.pid)]
    assert int(starts[0] or 0) < int(starts[1] or 0)


def test_a_reused_process_number_is_no_driver(run: RunDir) -> None:
    """A living process that started at another time than the owner is a different one."""
    _write_owner(run, started="1")
    assert holder(run) is None


ELSEWHERE = {"host": "another", "machine": "another boot", "pid": 1}


@pytest.mark.parametrize("hours", [-3, 0, 3])
def test_a_driver_on_another_machine(run: RunDir, monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Whatever its clock says, it is waited for, a line says so, and without a sign of life it is taken over."""
    slept: list[float] = []
    said: list[str] = []
    _write_owner(run, **ELSEWHERE, since=time.time() + 3600 * hours)
    os.utime(run.lock, (time.time() + 3600 * hours,) * 2)
    monkeypatch.setattr(lock.time, "sleep", slept.append)
    assert holder(run)
    with driver_lock(run, said.append) as mine:
        assert holder(run) == mine
    assert sum(slept) == lock.DEAD_AFTER_S
    (line,) = said
    assert line.startswith("waiting: ")
    assert "on another (process 1) holds" in line


def test_another_machines_driver_that_lives_is_left_alone(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life while it is watched: refused, at once."""
    slept: list[float] = []

    def beats(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            run.beat.write_text("x 7\n")

    _write_owner(run, **ELSEWHERE)
    run.beat.write_text("x 6\n")
    monkeypatch.setattr(lock.time, "sleep", beats)
    with pytest.raises(UserError, match=r"is being worked on by .* on another"), driver_lock(run):
        pass
    assert len(slept) == 3


def test_a_lock_that_is_given_back_meanwhile(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's driver ends while it is watched: the run is taken at once."""
    _write_owner(run, **ELSEWHERE)
    monkeypatch.setattr(lock.time, "sleep", lambda _: run.lock.unlink())
    with driver_lock(run) as mine:
        assert holder(run) == mine


def test_a_container_on_this_host_is_another_machine(run: RunDir) -> None:
    """A process number says nothing where processes are numbered otherwise, whatever the host is called."""
    _write_owner(run, machine=lock.machine().split()[0] + " pid:[1]", started="1")
    assert holder(run) is not None
    _write_owner(run, started="1")
    assert holder(run) is None


def test_a_driver_shows_signs_of_life(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another content at each beat, for observers on other machines; none is left behind."""
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    seen: set[bytes] = set()
    with driver_lock(run):
        deadline = time.monotonic() + 60
        while len(seen) < 3 and time.monotonic() < deadline:
            if run.beat.exists():
                seen.add(run.beat.read_bytes())
        assert len(seen) == 3
    assert not run.lock.exists()


def test_beats_come_often_enough() -> None:
    """A driver may miss several beats before another host takes it for dead."""
    assert lock.BEAT_S * 3 < lock.DEAD_AFTER_S


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1', "null", "[1]", "7", '{"pid": "x"}', '{"host": "a"}', "\0\0"])
def test_a_damaged_lock_holds_nothing(run: RunDir, content: str) -> None:
    """A lock file that is no owner's record is no living driver, and does not bar the run."""
    run.lock.write_text(content)
    assert holder(run) is None
    with driver_lock(run):
        assert holder(run)


def test_the_lock_of_a_successor_stays(run: RunDir) -> None:
    """A driver that lost its lock to another one does not remove that one's lock."""
    with driver_lock(run):
        _write_owner(run, host="another")
    assert json.loads(run.lock.read_text())["host"] == "another"


def test_of_many_at_once_one_wins(run: RunDir) -> None:
    """Of drivers that start at the same moment exactly one gets the run."""
    barrier, end, outcomes = threading.Barrier(8), threading.Event(), []

    def start() -> None:
        barrier.wait()
        try:
            with driver_lock(run):
                outcomes.append("won")
                end.wait(30)
        except UserError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 8 and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["won"]
