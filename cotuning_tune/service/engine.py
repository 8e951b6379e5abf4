"""What the reconciler needs of the world: looking at a run, starting and stopping its driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cotuning_tune.service.states import Seen

Row = Mapping[str, Any]  # of the table of runs


@dataclass(frozen=True)
class Look:
    """What a look has found: ``seen`` (None: not reached), the trials that run, the share that the driver says it
    follows (None: it says nothing), the figures of summary.json for lists; ``grown``: whether the folder knows of the
    trials that are wanted by now."""

    seen: Seen | None
    running: int = 0
    share: int | None = None
    grown: bool = True
    summary: dict[str, object] = field(default_factory=dict)


class Engine(Protocol):
    """Starts and stops drivers by the backends of launching. Every verb may be repeated."""

    def capacity(self, backend: str) -> float:
        """Units of a backend: GPUs, cores where it has none."""

    def look(self, run: Row) -> Look:
        """Look at the folder, the lock and the engine. Never raises."""

    def start(self, run: Row) -> None:
        """Start attempt ``run["attempt"]`` unless that has been started. Raises UserError for good, OSError for now."""

    def stop(self, run: Row) -> None:
        """End the driver cleanly; asks and does not wait."""

    def forestall(self, run: Row) -> None:
        """See to it that the present attempt can start no more."""

    def grow(self, run: Row) -> None:
        """Let each study have ``run["trials"]`` trials in all; a driver takes them over. Raises UserError, OSError."""

    def note(self, run: Row) -> None:
        """Write into the folder what the database knows of the run, so that it can be restored from there."""

    def give(self, run: Row, share: int) -> None:
        """Let the run have so many trials at a time. Raises OSError."""

    def stored(self, run: Row) -> int:
        """Bytes of the run's folder. Raises OSError."""

    def log(self, run: Row) -> Path | None:
        """The file of this machine that holds what its drivers have said; None where that lies elsewhere."""
