"""Results that many trials share: computed once, keyed by all that they depend on, written by rename."""

import getpass
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock


def cache_root() -> Path:
    """The cache folder: ``$COTUNING_TUNE_CACHE``, else ``~/.cache/cotuning_tune``; may be deleted."""
    given = os.environ.get("COTUNING_TUNE_CACHE")
    return Path(given).resolve() if given else Path.home() / ".cache" / "cotuning_tune"


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

    The lock lies in the host's temporary folder, for locks on a shared folder do not hold on every file
    system. Processes of two hosts may work on one path: what they write must bear that. The empty lock file
    stays there: if it were deleted, one that waits for it and one that makes it anew could both hold a lock.
    """
    folder = Path(tempfile.gettempdir()) / f"cotuning_tune-{getattr(os, 'getuid', getpass.getuser)()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.lock"):
        yield


def cached_file(kind: str, key: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file of that kind and key; ``make`` writes it to a temporary name when it is not there.

    Processes of a host that ask at the same time wait for the first; those of several hosts may each
    make it, and the last stays. A reader sees a whole file or none.
    """
    path = cache_root() / kind / f"{key}{suffix}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_one(path):
        if not path.exists():
            temporary = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
            try:
                make(temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    return path


def cached_arrays(kind: str, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Named arrays from the cache, computed on the first call."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **compute())  # type: ignore[arg-type]

    with np.load(cached_file(kind, key, ".npz", make)) as stored:
        return {name: stored[name] for name in stored.files}
