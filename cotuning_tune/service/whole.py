"""A service as a whole: its parts, made from its settings, started and closed together."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cotuning_tune.base.files import is_local, place
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.service.asked import Runs
from cotuning_tune.service.boards import Boards
from cotuning_tune.service.checker import Checker
from cotuning_tune.service.engine import Engine
from cotuning_tune.service.exports import Exports
from cotuning_tune.service.hooks import Outbox
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem, WrongState
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
        self.exports = Exports(self.runs)
        self.boards = Boards(settings.root / "boards")
        self.boards_at = settings.boards  # the origin of TensorBoards, once they are served

    def start(self) -> None:
        """Bring what runs in line with what is wanted, from now on."""
        self.checker.start()
        self.outbox.start()
        self.reconciler.start()

    def close(self) -> None:
        """End; drivers stay."""
        self.outbox.stop()
        self.reconciler.stop()
        self.boards.close()
        self.store.close()

    def board(self, actor: Actor, identities: Sequence[str]) -> str:
        """The address of a TensorBoard on runs that he sees. Raises Unknown, Problem, TooMany, WrongState."""
        actor.require("member")
        if not self.boards_at:
            raise WrongState("TensorBoards are not served here", "service.boards names their own address")
        folders = dict[str, Path]()
        for identity in identities:
            run = self.runs.get(actor, identity)
            folder = RunDir(place(run["folder"])).tensorboard
            if not is_local(folder):
                raise Problem(f"{run['name']} lies in an object store", "cotuning-tune tensorboard shows it")
            folders[run["name"] if run["name"] not in folders else f"{run['name']}-{identity}"] = folder
        return f"{self.boards_at}/{self.boards.begin(folders)}/"


def _drivers(settings: Settings) -> Engine:
    from cotuning_tune.service.drivers import Drivers

    return Drivers(settings)
