"""What a tracker is told, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cotuning_tune.runs.events import RunState

PROJECT = "cotuning_tune"  # where the user's environment names no other


@dataclass(frozen=True)
class TrackedRun:
    """A run. ``key``: its identity, wherever it lies; ``group``: a name that no other run has.

    ``folder``: where a tool keeps its files unless the user's environment says otherwise.
    """

    key: str
    name: str
    group: str
    folder: Path


@dataclass(frozen=True)
class Training:
    """A trial, or the retraining of a chosen configuration with one seed. ``key``: its identity, for every driver.

    ``name``: unique in the run; ``group``: of a seed the retraining that it belongs to, '' of a trial; ``stage``:
    search, confirm or retrain.
    """

    key: str
    name: str
    group: str
    stage: str
    params: Mapping[str, object]


@dataclass(frozen=True)
class Ending:
    """How a training ended: its study's state, numbers by name, and why it failed. ``epochs``: how many it has.

    ``when``: the end of the last one, in seconds since 1970, so that a repeated ending is the same one.
    """

    state: str
    values: Mapping[str, float]
    reason: str
    epochs: int
    when: float


class Tracker(ABC):
    """A tool that shows runs. Called from one thread of its own; whatever it raises ends it, never the run.

    A driver may be killed at any moment, and the next one tells again what may not have arrived: all calls find what
    an earlier driver began by its ``key``, and write nothing twice. ``package``: what is imported; ``install``: what
    brings it; ``variable``: of the environment, names another place for its files.
    """

    package: ClassVar[str]
    install: ClassVar[str]
    variable: ClassVar[str]

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it writes to, as the user's environment says; a tool that moved is told everything again."""

    def begin(self) -> None:
        """A driver begins, or continues, the run."""

    @abstractmethod
    def start(self, training: Training) -> int:
        """A training begins, or continues; how many of its epochs the tool holds already."""

    @abstractmethod
    def epoch(self, training: Training, epoch: int, values: Mapping[str, float], when: float) -> None:
        """An epoch's numbers by name; epochs come in order. ``when``: its end in seconds since 1970."""

    @abstractmethod
    def end(self, training: Training, ending: Ending) -> None:
        """A training has ended; when this returns, all of it has arrived."""

    def close(self, state: RunState) -> None:
        """The driver ends; trainings that have not ended will be continued."""
