"""The observer that tells a tracker what happens to a run.

An event only says which folder has changed; a thread of the tracker's own reads it and sends what is new, so that a
driver that continues catches up in the same way. What waits is a set of folders, which a tool that hangs cannot make
grow beyond the run's trainings.
"""

import hashlib
import threading
from collections.abc import Iterable

from cotuning_tune.base.files import append_line, guarded, is_local, make_folder, place
from cotuning_tune.runs.events import (
    Ended,
    EpochEnded,
    Event,
    Notice,
    RunState,
    SeedEnded,
    StageStarted,
    TrialEnded,
    TrialStarted,
)
from cotuning_tune.runs.folder import RunDir, TrialDir
from cotuning_tune.runs.stream import Stream
from cotuning_tune.trackers._base import Tracker
from cotuning_tune.trackers._find import tracker
from cotuning_tune.trackers._reading import Found, read_training, tracked

LIMIT_S = 60.0  # how long the end of a driver waits for a tool


class Tracking:
    """Tells one tracker. What it raises is raised by the next event: the stream names it and leaves it out."""

    def __init__(self, name: str, run: RunDir) -> None:
        self.__name__ = f"the tracker {name}"
        self.run, self.name, self.driver = run, name, 0
        self._search = run
        self._todo: dict[TrialDir, None] = {}  # in order, each once
        self._changed = threading.Condition()
        self._state: RunState | None = None  # once the driver ends
        self._problem: Exception | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event, now: Stream) -> None:
        if self._problem is None:
            self._take(event, now)
        if self._problem is not None:
            raise self._problem

    def _take(self, event: Event, now: Stream) -> None:
        match event:
            case StageStarted(path=path):
                self._search, self.driver = RunDir(place(path)), now.driver
                self._add(folder for study in self._search.study_folders() for folder in study.trainings())
            case TrialStarted(study, trial) | EpochEnded(study, trial) | TrialEnded(study, trial):
                self._add([self._search.study(study).trial(trial)])
            case SeedEnded(study, seed):
                self._add([self._search.study(study).retrain(seed)])
            case Ended(state):
                self._end(state, now)

    def _add(self, folders: Iterable[TrialDir]) -> None:
        with self._changed:
            self._todo |= dict.fromkeys(folders)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def _end(self, state: RunState, now: Stream) -> None:
        with self._changed:
            self._state = state
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(LIMIT_S)
        if self._thread.is_alive():
            line = f"{self.__name__} has not taken everything within {LIMIT_S:.0f} s: 'resume' sends what it lacks"
            now.tell(Notice(line, urgent=True))

    def _work(self) -> None:
        try:
            with guarded(self.run.experiment_file):
                self._send_all()
        except Exception as problem:  # whatever it is, the run does not depend on who is told
            self._problem = problem

    def _send_all(self) -> None:
        self._ready()
        told = tracker(self.name)(tracked(self.run, self.run.trackers))
        sending = _Sending(told, self.run, self.name)
        told.begin()
        while (found := self._next()) is not None and self.run.read_incarnation() == self.driver:
            self._ready()
            sending.send(found)
        if self._state is not None and self.run.read_incarnation() == self.driver:
            told.close(self._state)

    def _ready(self) -> None:
        """Wait for the storage: a tool would make its folder anew in the place of one that has vanished."""
        if is_local(self.run.trackers):
            make_folder(self.run.trackers, 0o700)

    def _next(self) -> TrialDir | None:
        """The folder that has waited longest; None once the driver ends and none waits any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._todo or self._state is not None)
            first = next(iter(self._todo), None)
            self._todo.pop(first, None) if first else None
            return first


class _Sending:
    """Sends what a tool lacks; a file in the run's folder keeps which trainings it has whole."""

    def __init__(self, told: Tracker, run: RunDir, name: str) -> None:
        self.told, self.run, self.file = told, run, run.tracked_by(name)
        self.whole = set(self.file.read_text().split()) if self.file.exists() else set()
        self.held: dict[str, int] = {}

    def send(self, folder: TrialDir) -> None:
        """Tell what is new in a folder."""
        found = read_training(self.run, folder)
        if found is None or (mark := self._mark(found)) in self.whole:
            return
        training, scalars = found.training, found.scalars()
        if training.key not in self.held:
            self.held[training.key] = self.told.start(training)
        for epoch in range(self.held[training.key] + 1, len(scalars) + 1):
            self.told.epoch(training, epoch, scalars[epoch - 1], found.rows[epoch - 1].get("time", 0.0))
            self.held[training.key] = epoch
        if found.ending:
            self.told.end(training, found.ending)
            del self.held[training.key]
            append_line(self.file, mark)
            self.whole.add(mark)

    def _mark(self, found: Found) -> str:
        return hashlib.sha256(f"{self.told.place} {found.training.key}".encode()).hexdigest()
