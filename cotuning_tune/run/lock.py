"""One driver a run: a lock with owner, host and age; a dead owner's lock is taken over."""

import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import create, is_local, touch
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.records import Owner

BEAT_S = 10.0
DEAD_AFTER_S = 60.0
LOOK_S = 0.5


def started_at(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since boot; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry, common in containers
        return str(os.getuid())


def _owner() -> Owner:
    pid = os.getpid()
    return {
        "user": _user(),
        "host": socket.gethostname(),
        "pid": pid,
        "started": started_at(pid),
        "since": time.time(),
    }


def _lives(lock: Path, owner: Owner) -> bool:
    if owner.get("host") == socket.gethostname() and Path("/proc/self/stat").exists():
        started = started_at(int(owner.get("pid", 0)))
        return started is not None and started == owner.get("started")
    return time.time() - lock.stat().st_mtime < DEAD_AFTER_S


def holder(run: RunDir) -> Owner | None:
    """The living driver of a run (user, host, pid, since), or None."""
    try:
        owner: Owner = json.loads(run.lock.read_text())
        return owner if _lives(run.lock, owner) else None
    except (FileNotFoundError, json.JSONDecodeError):
        return None


@contextmanager
def _guard(lock: Path) -> Iterator[None]:
    """One at a time looks at the lock and takes it. An object store has none: there ``create`` decides."""
    if not is_local(lock):
        yield
        return
    with FileLock(lock.with_suffix(".guard")):
        yield


def _take(run: RunDir) -> Owner:
    with _guard(run.lock):
        if other := holder(run):
            minutes = (time.time() - other["since"]) / 60
            raise UserError(
                f"{run.path} is being worked on by {other['user']} on {other['host']}"
                f" (process {other['pid']}, for {minutes:.0f} min): wait for it or stop it first"
            )
        mine = _owner()
        run.lock.unlink(missing_ok=True)
        try:
            create(run.lock, json.dumps(mine).encode())
        except FileExistsError:
            raise UserError(f"another driver of {run.path} has started at this moment: wait for it") from None
        return mine


def _beat(lock: Path, mine: Owner, stopped: threading.Event) -> None:
    """Keep the lock young as long as it is ours."""
    while not stopped.wait(BEAT_S):
        try:
            if json.loads(lock.read_text()) == mine:
                touch(lock)
        except (OSError, ValueError):
            continue


def _outlast(run: RunDir) -> None:
    """Wait until another host's young lock has shown whether its owner lives: it is touched, or grows old.

    A cluster that has died is made again within seconds, on hosts of other names.
    """
    owner = holder(run)
    if owner is None or owner["host"] == socket.gethostname():
        return
    try:
        touched = run.lock.stat().st_mtime
        while holder(run) == owner and run.lock.stat().st_mtime == touched:
            time.sleep(LOOK_S)
    except FileNotFoundError:  # given back meanwhile
        return


@contextmanager
def driver_lock(run: RunDir) -> Iterator[Owner]:
    """Hold the run for this process; gives its owner. Raises UserError where a living driver holds it."""
    _outlast(run)
    mine = _take(run)
    stopped = threading.Event()
    threading.Thread(target=_beat, args=(run.lock, mine, stopped), daemon=True).start()
    try:
        yield mine
    finally:
        stopped.set()
        if run.lock.exists() and json.loads(run.lock.read_text()) == mine:
            run.lock.unlink()
