"""Folders that are this user's alone. Nothing lies under a predictable name where others may write.

A folder that somebody else made beforehand, or put a link to, is not worked in.
"""

import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from cotuning_tune.base.errors import UserError

CURE = "set COTUNING_TUNE_CACHE to a folder of your own"


def user_id() -> int | None:
    """The number of this user, None where the system has none (Windows)."""
    return os.getuid() if hasattr(os, "getuid") else None


def make_folders(path: Path) -> None:
    """Make a folder, and those above it that are not there, for their owner alone."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def own_folder(path: Path) -> Path:
    """The folder, made with mode 0700 or made so. Raises UserError for a link or a folder of another user."""
    make_folders(path)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{path} is a link, not a folder: remove it, or {CURE}")
    if user_id() not in (None, found.st_uid):
        raise UserError(f"{path} belongs to another user: {CURE}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def check_owner(path: Path) -> None:
    """Raises UserError where a folder belongs to neither this user nor root."""
    if user_id() not in (None, found := path.stat().st_uid) and found != 0:
        raise UserError(f"{path} belongs to another user: {CURE}")


def runtime_folder() -> Path | None:
    """The folder that the system gives this user until he logs out, where it is really his and closed to others."""
    given = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user_id()}"]
    for path in (Path(text) for text in given if text):
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user_id() and not stat.S_IMODE(found.st_mode) & 0o077:
            return path
    return None


def host_folders(name: str, cache: Path) -> Iterator[Path]:
    """Private folders for what is of this host alone, as locks and sockets: the best first, found again each time.

    In the runtime folder, below the cache, below the home folder; where none can be made, none.
    """
    here = re.sub(r"[^\w.-]", "_", platform.node() or "host")
    runtime = runtime_folder()
    places = [runtime / f"cotuning_tune-{name}"] if runtime else []
    for place in (*places, cache / f"{name}-{here}", Path("~/.cotuning_tune").expanduser() / f"{name}-{here}"):
        try:
            yield own_folder(place)
        except (OSError, UserError):
            continue
