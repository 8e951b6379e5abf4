"""What Ray needs of this machine before it starts here: shared memory, and a folder whose path its sockets can bear."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cotuning_tune.base.errors import UserError

SHARED_MEMORY = Path("/dev/shm")  # nosec B108 # only looked at
SHORT = Path("/tmp")  # nosec B108 # mkdtemp makes a folder of its own there
MOST_BYTES = 107 if sys.platform.startswith("linux") else 103  # of a socket's path, for the system
BELOW = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")  # what Ray adds, and a little
SPARE = 4


def check_shared_memory() -> None:
    """Raises UserError where there is no shared memory: Ray's objects lie there, and so do torch's."""
    if sys.platform.startswith("linux") and not (SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)):
        raise UserError(
            f"Ray needs shared memory, and {SHARED_MEMORY} is not there or cannot be written: mount it"
            f" (mount -t tmpfs -o size=1g tmpfs {SHARED_MEMORY}; docker run --shm-size=1g)"
        )


def _too_long(folder: str) -> bool:
    return len(os.fsencode(folder.rstrip("/"))) + BELOW + SPARE > MOST_BYTES


@contextmanager
def ray_folder() -> Iterator[str | None]:
    """Where a Ray that is started here keeps its sockets and logs; None: where it does by itself.

    That is below TMPDIR, whose path may be too long for a socket: then a short folder of this user alone, removed at
    the end. Raises UserError where there is no such place.
    """
    given = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    folder = os.environ.get(given) or str(SHORT)
    if not _too_long(folder):
        yield None
        return
    try:
        short = tempfile.mkdtemp(prefix="cotuning_tune-", dir=SHORT)  # for its owner alone (0700)
    except OSError as problem:
        most = MOST_BYTES - BELOW - SPARE
        raise UserError(
            f"{given} = {folder} is too long for Ray's sockets, and {SHORT} cannot be used ({problem.strerror}):"
            f" set RAY_TMPDIR to a folder of your own with at most {most} bytes in its path"
        ) from None
    try:
        yield short
    finally:
        shutil.rmtree(short, ignore_errors=True)
