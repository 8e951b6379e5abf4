"""What the terminal shows while a run is under way: one changing line, or plain lines where it is not a terminal."""

import os
import shutil
import time
from typing import TextIO

PLAIN_EVERY_S = 10.0
AT_ONCE = 0.1  # of the time before the first sign of progress: what comes so soon after it belongs to it
TRUSTED = 0.5  # of the same time: so long a rate must have been measured, or over a whole item


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
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.live = terminal or type(stream).__module__.startswith("ipykernel")  # a notebook writes over too
        self.start = time.monotonic()
        self._begun, self._whole = 0.0, False  # the first sign of progress, and whether it was a whole item
        self._since, self._had = 0.0, 0.0  # from where the rate is measured
        self._shown, self._width, self._last_done = 0.0, 0, -1

    def _each(self, now: float, fresh: float) -> float | None:
        """Seconds an item takes; None while that is not known.

        Measured from the first sign of progress on: what comes before it, as the start of workers, does not count for
        every item. Where the first sign is a whole item that one counts until there is more.
        """
        if fresh <= 0:
            return None
        if not self._begun:
            self._begun, self._whole = now, fresh >= 1
        waited = self._begun - self.start
        if now - self._begun <= AT_ONCE * waited:
            self._since, self._had = now, fresh
        elif fresh > self._had and (now - self._since >= TRUSTED * waited or fresh >= self._had + 1):
            return (now - self._since) / (fresh - self._had)
        return (now - self.start) / fresh if self._whole else None

    def _eta(self, done: int, total: int, before: int, share: float, until: float) -> str:
        now = time.monotonic()
        each = self._each(now, done - before + share)
        if now < until:
            return f"new trials for {duration(until - now)}"
        if done >= total:
            return f"took {duration(now - self.start)}"
        return f"ETA {duration(each * max(total - done - share, 0))}" if each is not None else "ETA unknown"

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
