"""A service whose windows are widened, to be killed: ``python -m tests.service.storm ROOT STEPS``."""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from cotuning_tune.service import reconciler, states
from cotuning_tune.service.drivers import Drivers
from cotuning_tune.service.engine import Row
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.settings import Place, Settings
from cotuning_tune.service.store import Store
from tests.service import stand_in

WIDE_S = 0.08


def pause() -> None:
    """Wait a little: a kill falls into it."""
    time.sleep(random.uniform(0, WIDE_S))


class Slow(Drivers):
    """Starts with a pause before and after."""

    def start(self, run: Row) -> None:
        pause()
        super().start(run)
        pause()


class SlowStore(Store):
    """Writes with a pause before and after."""

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        pause()
        with super().writing() as connection:
            yield connection
        pause()


def settings_of(root: Path, steps: int, capacity: float = 4.0) -> Settings:
    """Settings whose drivers are stand-ins of so many epochs."""
    python = root / "python"
    if not python.exists():
        root.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in.__file__} {steps} "$@"\n')
        python.chmod(0o700)
    place = Place("here", "local", capacity, profile={"python": str(python)})
    return Settings(root, str(root / "runs"), f"sqlite:///{root / 'service.db'}", (), (place,))


def main(root: Path, steps: int) -> None:
    """Go round until killed."""
    reconciler.ROUND_S = 0.05
    states.BACKOFF_S = 0.1
    settings = settings_of(root, steps)
    store = SlowStore(settings.database)
    Reconciler(store, Slow(settings)).start()
    (root / "up").touch()
    time.sleep(3600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
