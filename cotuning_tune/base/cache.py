"""Results that many trials share: computed once, keyed by all that they depend on, written by rename.

The cache is this user's alone: its folders are made with mode 0700, and one that belongs to somebody else, or is a
link, is not used. Each file has its SHA-256 beside it (``NAME.sha256``), both on the disk before they count; a file
that has not its checksum, as after a power cut, is made again. To check costs reading the file: a process does it
once for each file as it is (size, time of change, inode), not at each access.
"""

import functools
import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from cotuning_tune.base.errors import first_line
from cotuning_tune.base.files import write_bytes
from cotuning_tune.base.private import check_owner, host_folders, make_folders, own_folder

log = logging.getLogger(__name__)


def cache_root() -> Path:
    """The cache folder: ``$COTUNING_TUNE_CACHE``, else the system's for this user (``~/.cache/cotuning_tune``).

    It may be deleted.
    """
    given = os.environ.get("COTUNING_TUNE_CACHE")
    return Path(given).resolve() if given else user_cache_path("cotuning_tune", appauthor=False)


def cache_folder(kind: str) -> Path:
    """A folder of the cache, for its owner alone. Raises UserError where it is a link or somebody else's."""
    root = cache_root().resolve()
    make_folders(root)
    check_owner(root)
    return own_folder(root / kind)


def content_key(*parts: Any) -> str:
    """A hexadecimal SHA-256 of JSON-able parts, bytes and arrays: equal contents give equal keys."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        elif isinstance(part, bytes):
            digest.update(b"bytes %d " % len(part) + part)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Of the processes of this host one at a time works on ``path``; the kernel frees the lock of a dead one.

    The lock lies in a private folder of this host, not beside ``path``: locks on a shared folder do not hold on every
    file system. Where no lock is to be had, it works without. Processes of two hosts may work on one path: what
    they write must bear that. The empty lock file stays there: if it were deleted, one that waits for it and one that
    makes it anew could both hold a lock.
    """
    lock = _locked(f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.lock")
    try:
        yield
    finally:
        if lock:
            lock.release()


def _locked(name: str) -> FileLock | None:
    """A lock that is held, None where the file systems at hand have none."""
    reason = "no private folder can be made"
    for folder in host_folders("locks", cache_root().resolve()):
        try:
            lock = FileLock(folder / name, mode=0o600)
            lock.acquire()
            return lock
        except (OSError, NotImplementedError) as problem:
            reason = first_line(problem)
    log.warning("no lock is to be had (%s): processes that start together may do the same work", reason)
    return None


def cached_file(kind: str, key: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file of that kind and key; ``make`` writes it to a temporary name when it is not there, or damaged.

    Processes of a host that ask at the same time wait for the first; those of several hosts may each
    make it, and the last stays. A reader sees a whole file or none.
    """
    path = cache_folder(kind) / f"{key}{suffix}"
    if not _is_whole(path):
        with only_one(path):
            if not _is_whole(path):
                if path.exists():
                    log.warning("%s is damaged, or its checksum is missing: it is made again", path)
                _write(path, make)
    return path


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write(path: Path, make: Callable[[Path], None]) -> None:
    """File and checksum, each written whole and synced; what ends in between leaves a file that does not count."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    try:
        make(temporary)
        with temporary.open("r+b") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        temporary.replace(path)
        write_bytes(_checksum(path), f"{digest}\n".encode())
    finally:
        temporary.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int, int] | None:
    """Size, time of change and inode of a file, by which it is known as the same; None for a link or no file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _is_whole(path: Path) -> bool:
    """Whether the file is there and has its checksum."""
    found = identity(path)
    if not (found and identity(_checksum(path))):
        return False
    return _has_digest(path, found, _checksum(path).read_bytes().strip())


@functools.lru_cache(maxsize=4096)
def _has_digest(path: Path, _: tuple[int, int, int], digest: bytes) -> bool:
    """Whether the file, as it is now, has that SHA-256: read once a process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().encode() == digest


def cached_arrays(kind: str, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Named arrays from the cache, computed on the first call."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **compute())  # type: ignore[arg-type]

    with np.load(cached_file(kind, key, ".npz", make), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
