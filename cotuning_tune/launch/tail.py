"""Reading a log while it is written."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

EVERY_S = 0.3


def follow_file(path: Path, goes_on: Callable[[], bool]) -> Iterator[str]:
    """The text of a file in pieces; waits for more as long as ``goes_on`` says so."""
    while not path.exists():
        if not goes_on():
            return
        time.sleep(EVERY_S)
    with path.open("rb") as file:
        while True:
            last = not goes_on()  # asked before reading: what was written before the end is read
            if piece := file.read():
                yield piece.decode(errors="replace")
            if last:
                return
            time.sleep(EVERY_S)
