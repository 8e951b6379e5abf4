"""Work that lets go of the interpreter's lock (decoding, hashing, files), on threads and in order."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Advance = Callable[[int, int], None]
CHUNK, SAY_EVERY = 1024, 100


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_threads(
    work: Callable[[Item], Answer], items: Sequence[Item], jobs: int | None = None, advance: Advance | None = None
) -> Iterator[Answer]:
    """The answers in the items' order; few are held at a time, however many items there are.

    ``jobs``: threads, by default one per core. ``advance(done, total)`` reports how far it is.
    """
    with ThreadPoolExecutor(jobs or cores()) as pool:
        for start in range(0, len(items), CHUNK):
            for done, answer in enumerate(pool.map(work, items[start : start + CHUNK]), start + 1):
                yield answer
                if advance and (done % SAY_EVERY == 0 or done == len(items)):
                    advance(done, len(items))
