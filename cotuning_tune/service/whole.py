"""A service as a whole: its parts, made from its settings, started and closed together."""

import time
from collections.abc import Callable

from cotuning_tune.service.asked import Runs
from cotuning_tune.service.checker import Checker
from cotuning_tune.service.engine import Engine
from cotuning_tune.service.hooks import Outbox
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.settings import Settings
from cotuning_tune.service.store import Store


class Service:
    """The parts of a service. ``engine``: None for real drivers; ``now``: seconds since 1970."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine | None = None,
        *,
        migrate: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.now = settings, now
        settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store = Store(settings.database, migrate=migrate)
        self.engine = engine or _drivers(settings)
        self.checker = Checker(settings.data_roots)
        self.reconciler = Reconciler(self.store, self.engine, now)
        self.outbox = Outbox(self.store, now)
        self.runs = Runs(self.store, settings, self.checker.check, self.reconciler.wake, now)

    def start(self) -> None:
        """Bring what runs in line with what is wanted, from now on."""
        self.checker.start()
        self.outbox.start()
        self.reconciler.start()

    def close(self) -> None:
        """End; drivers stay."""
        self.outbox.stop()
        self.reconciler.stop()
        self.store.close()


def _drivers(settings: Settings) -> Engine:
    from cotuning_tune.service.drivers import Drivers

    return Drivers(settings)
