"""What the terminal shows while a run is under way: one changing line, or plain lines where it is not a terminal."""

import shutil
import time
from typing import TextIO

PLAIN_EVERY_S = 10.0


def duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


class ProgressLine:
    """Shows how much is done. On a terminal one line is written over; elsewhere a line now and then."""

    def __init__(self, stream: TextIO, what: str) -> None:
        self.stream, self.what = stream, what
        self.live = stream.isatty() or type(stream).__module__.startswith("ipykernel")  # a notebook writes over too
        self.start = time.monotonic()
        self._shown, self._width, self._last_done = 0.0, 0, -1

    def _eta(self, done: int, total: int, before: int, share: float, until: float) -> str:
        now = time.monotonic()
        elapsed, fresh = now - self.start, done - before + share
        if now < until:
            return f"new trials for {duration(until - now)}"
        if done >= total:
            return f"took {duration(elapsed)}"
        return f"ETA {duration(elapsed / fresh * max(total - done - share, 0))}" if fresh > 0 else "ETA unknown"

    def show(self, done: int, total: int, detail: str, before: int = 0, share: float = 0.0, until: float = 0.0) -> None:
        """For the estimate: ``before``, how much was done at the start, ``share``, how much of what is under way.

        ``until``: the total grows until then, by the monotonic clock.
        """
        text = f"{self.what}: {done}/{total} · {detail} · {self._eta(done, total, before, share, until)}"
        now = time.monotonic()
        if self.live:
            text = text[: shutil.get_terminal_size().columns - 1]  # a wrapped line cannot be written over
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif done != self._last_done and (done >= total or now - self._shown >= PLAIN_EVERY_S):
            self.stream.write(text + "\n")
            self._shown = now
        self._last_done = done
        self.stream.flush()

    def end(self) -> None:
        """Leave the changing line."""
        if self.live and self._width:
            self.stream.write("\n")
            self.stream.flush()
