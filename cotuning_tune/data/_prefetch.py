"""The next batch is fetched while the current one is worked on."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[tuple[Item, Made]]:
    """``(item, make(item))`` in turn; one thread makes the next while the caller works on this one.

    An error of ``make`` is raised when its item's turn comes.
    """
    waiting: list[tuple[Item, Future[Made]]] = []
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            waiting.append((item, pool.submit(make, item)))
            if len(waiting) == 2:
                this, made = waiting.pop(0)
                yield this, made.result()
        for this, made in waiting:
            yield this, made.result()
