"""Results that many trials share: computed once, keyed by all that they depend on, written by rename."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


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
    """Hold a lock beside ``path``; freed by the kernel when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached_file(kind: str, key: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file of that kind and key; ``make`` writes it to a temporary name when it is not there.

    Processes that ask at the same time wait for the first; one killed while writing leaves nothing.
    """
    path = cache_root() / kind / f"{key}{suffix}"
    if path.exists():
        return path
    with only_one(path):
        if not path.exists():
            temporary = path.with_name(f".{os.getpid()}.{path.name}")
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
