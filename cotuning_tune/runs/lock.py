"""One driver a run: a lock with its owner and his signs of life; a dead owner's lock is taken over.

On one machine the kernel tells who lives. Of another machine's owner only this is asked: does he show a sign of life
while this one watches? Clocks of two machines are never compared.
"""

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from filelock import FileLock

from cotuning_tune.base.errors import Held
from cotuning_tune.base.files import create, is_local, write_bytes
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Owner

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


def machine() -> str:
    """What tells whose process numbers these are: this boot of the kernel, and this container's own numbering."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _owner() -> Owner:
    pid = os.getpid()
    return {
        "user": _user(),
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": pid,
        "started": started_at(pid),
        "since": time.time(),
        "token": secrets.token_hex(8),
    }


def _read(run: RunDir) -> Owner | None:
    """What the lock says, whatever it says; None where it is not there, or not the record of an owner."""
    try:
        found = json.loads(run.lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(found, dict) and all(type(found.get(key)) is kind for key, kind in _KINDS.items())
    return cast(Owner, found) if known else None


_KINDS = {"user": str, "host": str, "pid": int, "token": str}


def _is_here(owner: Owner) -> bool:
    """Whether the owner's process number is one of this machine's."""
    return bool(machine()) and owner.get("machine") == machine()


def holder(run: RunDir) -> Owner | None:
    """The driver that holds a run (user, host, pid), or None.

    On this machine it lives. Of another machine's it is not known: ``driver_lock`` finds out.
    """
    owner = _read(run)
    if owner is None or not _is_here(owner):
        return owner
    started = started_at(owner["pid"])
    return owner if started is not None and started == owner.get("started") else None


def lives_here(run: RunDir) -> bool:
    """Whether a process of this machine drives a run."""
    owner = holder(run)
    return owner is not None and _is_here(owner)


@contextmanager
def guard(file: Path) -> Iterator[None]:
    """One at a time reads the file and writes it anew. An object store knows no such thing."""
    if not is_local(file):
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".guard")):
        yield


def _take(run: RunDir, dead: Owner | None) -> Owner:
    """Take the lock. ``dead``: an owner on another machine who has shown no sign of life."""
    with guard(run.lock):  # in an object store ``create`` alone decides
        other = holder(run)
        if other and other != dead:
            raise Held(
                f"{run.path} is being worked on by {other['user']} on {other['host']}"
                f" (process {other['pid']}): wait for it or stop it first"
            )
        mine = _owner()
        run.lock.unlink(missing_ok=True)
        try:
            create(run.lock, json.dumps(mine).encode())
        except FileExistsError:
            raise Held(f"another driver of {run.path} has started at this moment: wait for it") from None
        return mine


def _beat(run: RunDir, mine: Owner, stopped: threading.Event) -> None:
    """Show signs of life as long as the lock is ours."""
    count = 0
    while not stopped.wait(BEAT_S):
        count += 1
        with suppress(OSError):
            if _read(run) == mine:
                write_bytes(run.beat, f"{mine['token']} {count}\n".encode(), durable=False)


def _sign(run: RunDir) -> bytes:
    try:
        return run.beat.read_bytes()
    except OSError:
        return b""


def _dead_owner(run: RunDir, say: Callable[[str], None]) -> Owner | None:
    """Another machine's owner who shows no sign of life for a minute; None where there is none, or he lives.

    A cluster that has died is made again within seconds, on hosts of other names.
    """
    owner = holder(run)
    if owner is None or _is_here(owner):
        return None
    say(
        f"waiting: {owner['user']} on {owner['host']} (process {owner['pid']}) holds {run.path}; it is taken over"
        f" without a sign of life for {DEAD_AFTER_S:.0f} s"
    )
    seen, looks = _sign(run), int(DEAD_AFTER_S / LOOK_S)
    for _ in range(looks):
        time.sleep(LOOK_S)
        if holder(run) != owner or _sign(run) != seen:
            return None
    return owner


@contextmanager
def driver_lock(run: RunDir, say: Callable[[str], None] = lambda line: None) -> Iterator[Owner]:
    """Hold the run for this process; gives its owner. Raises Held where a living driver holds it.

    ``say`` is told when it has to be found out whether one on another machine lives.
    """
    mine = _take(run, _dead_owner(run, say))
    stopped = threading.Event()
    threading.Thread(target=_beat, args=(run, mine, stopped), daemon=True).start()
    try:
        yield mine
    finally:
        stopped.set()
        if _read(run) == mine:
            run.lock.unlink(missing_ok=True)
            run.beat.unlink(missing_ok=True)
