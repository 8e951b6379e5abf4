"""The stream of a run's events: it keeps the tallies, and hands each event to everything that watches."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from cotuning_tune.base.errors import first_line
from cotuning_tune.runs.events import (
    Checked,
    Ended,
    Event,
    Notice,
    RunState,
    ShareChanged,
    StageStarted,
    Standing,
    Waiting,
    after,
)
from cotuning_tune.runs.folder import RunDir

PATIENCE_S = 10.0  # an observer that hangs in one thread does not keep back what another thread tells


class Observer(Protocol):
    """Whatever watches a run: called with each event, and with where the run stands after it."""

    def __call__(self, event: Event, now: "Stream", /) -> None: ...


class Stream:
    """Where a run stands, kept up by its events. An observer that raises is named and left out from then on.

    ``searches``: by name, the run's own search first, then its repeats; ``current``: the one that events are of;
    ``driver``: the newest driver's number of the run itself; ``gpus``: what a training takes; ``concurrent``: how many
    trainings may run at a time, 0 before the first stage.
    """

    def __init__(self, run: RunDir, observers: Iterable[Observer] = ()) -> None:
        self.run, self.observers = run, list(observers)
        self.searches: dict[str, Standing] = {run.name: Standing()}
        self.current, self.driver, self.gpus = run.name, run.read_incarnation(), 0.0
        self.concurrent, self.checked, self.ended = 0, False, False
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type["Stream"], tuple[RunDir]]:
        """Tune writes down all that it is given; nobody watches a copy of this."""
        return Stream, (self.run,)

    @property
    def standing(self) -> Standing:
        """Where the current search stands."""
        return self.searches[self.current]

    @property
    def hours(self) -> float:
        """Hours of ended trainings, of all searches."""
        return sum(one.search_seconds + one.retrain_seconds for one in list(self.searches.values())) / 3600

    def tell(self, event: Event) -> None:
        """Take an event into account and hand it on, from any thread; one event at a time unless an observer hangs."""
        held = self._lock.acquire(timeout=PATIENCE_S)
        try:
            self._take(event)
            failures = [found for observer in list(self.observers) if (found := self._hand(event, observer))]
        finally:
            if held:
                self._lock.release()
        for failure in failures:
            self.tell(Notice(failure, urgent=True))

    def _take(self, event: Event) -> None:
        if isinstance(event, Checked):
            self.checked, self.searches = True, dict(event.searches)
        elif isinstance(event, StageStarted):
            self.current, self.gpus, self.concurrent = event.search, event.gpus, event.concurrent
            if event.search == self.run.name:
                self.driver = event.driver
        elif isinstance(event, ShareChanged):
            self.concurrent = event.concurrent
        elif isinstance(event, Ended):
            self.ended = True
        self.searches[self.current] = after(event, self.searches.get(self.current, Standing()))

    def _hand(self, event: Event, observer: Observer) -> str:
        """The line that says what went wrong with an observer, '' where nothing did."""
        try:
            observer(event, self)
        except Exception as problem:  # whatever it is, the run does not depend on who watches it
            self.observers.remove(observer)
            name = getattr(observer, "__name__", type(observer).__name__)
            return f"{name} has failed and is left out from now on: {type(problem).__name__}: {first_line(problem)}"
        return ""

    def end(self, state: RunState, reason: str = "") -> None:
        """Tell the end once; of a run that was refused before it was ``Checked`` nothing is told."""
        if self.checked and not self.ended:
            self.tell(Ended(state, reason))

    @contextmanager
    def also(self, *observers: Observer) -> Iterator[None]:
        """While inside, hand the events to these observers too."""
        self.observers += observers
        try:
            yield
        finally:
            self.observers = [one for one in self.observers if one not in observers]

    def notice(self, line: str) -> None:
        """Tell a ``Notice``."""
        self.tell(Notice(line))

    def waiting(self, line: str) -> None:
        """Tell that the run is ``Waiting``."""
        self.tell(Waiting(line))
