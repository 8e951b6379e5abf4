"""How long a run's drivers have searched: seconds of their own clocks, added up on disk."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic

from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.runs.folder import RunDir

EVERY_S = 10.0  # between two writes: what a kill loses at most


class Clock:
    """Runs only while its driver is ``driving``. ``run`` None: nothing is kept."""

    def __init__(self, run: RunDir | None) -> None:
        self.run, self.driving = run, False
        counted: float = read_json(run.clock)["seconds"] if run and run.clock.exists() else 0.0
        self._state: tuple[float, float | None] = (
            counted,
            None,
        )  # counted up to when it began to run; one value: threads
        self._may_write: Callable[[], bool] = lambda: True
        self._writing = threading.Lock()

    @property
    def seconds(self) -> float:
        """All that has been counted, by former drivers too."""
        counted, since = self._state
        return counted if since is None else counted + monotonic() - since

    def start(self) -> None:
        """Run, where a driver drives."""
        if self.driving and self._state[1] is None:
            self._state = self._state[0], monotonic()

    def stop(self, most: float = inf) -> None:
        """Stand still, at ``most`` seconds where it is beyond them."""
        self._state = min(self.seconds, most), None

    def keep(self) -> None:
        """Write it down. What cannot be written is left to the next time."""
        with self._writing, suppress(Exception):  # an object store raises more than OSError
            if self.run and self._may_write():
                write_json(self.run.clock, {"seconds": self.seconds})

    @contextmanager
    def kept(self, may_write: Callable[[], bool]) -> Iterator[None]:
        """While inside it may run, and a thread of its own writes it down.

        ``may_write``: whether the run is still this driver's.
        """
        self._may_write, self.driving, ended = may_write, True, threading.Event()
        threading.Thread(target=self._keep_on, args=(ended,), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            self.driving = False
            self.stop()
            self.keep()

    def _keep_on(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY_S):
            self.keep()
