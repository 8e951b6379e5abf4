"""A world for the reconciler: drivers that start, work, die and are taken over by people, and deaths of the service."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from cotuning_tune.base.endings import UNFINISHED
from cotuning_tune.service.asked import Checked, Runs
from cotuning_tune.service.engine import Look, Row
from cotuning_tune.service.people import Actor
from cotuning_tune.service.settings import Place, Settings
from cotuning_tune.service.states import Seen
from cotuning_tune.service.store import Store
from cotuning_tune.service.tables import USER
from cotuning_tune.service.whole import Service


class Death(BaseException):
    """The service is killed here."""


@dataclass
class Life:
    """A run in the world: epochs that are done of those it needs, the claims of its attempts, and who drives it."""

    needed: int = 4
    progress: int = 0
    claims: dict[int, str] = field(default_factory=dict)  # "driver" or "forestalled"
    alive: int | None = None
    person: bool = False
    locked: bool = False
    code: int | None = None
    away: bool = False
    share: int = 0
    follows: int = 0

    def end(self, code: int | None) -> None:
        self.alive, self.locked, self.code = None, False, code


class World:
    """An engine whose drivers are made up. ``hook`` is called before and after all that reaches outside."""

    def __init__(self, capacity: float = 4.0) -> None:
        self.lives: dict[str, Life] = {}
        self.units, self.doubles, self.started = capacity, 0, list[tuple[str, int]]()
        self.slow, self.on_their_way = False, list[tuple[str, int]]()
        self.notes: dict[str, dict[str, object]] = {}
        self.hook: Callable[[str], None] = lambda where: None

    def life(self, run: Row) -> Life:
        return self.lives.setdefault(run["id"], Life())

    def capacity(self, backend: str) -> float:
        return self.units

    def look(self, run: Row) -> Look:
        life = self.life(run)
        if life.away:
            return Look(None)
        number = run["attempt"]
        engine = "absent" if number not in life.claims else "running" if life.alive == number else "ended"
        seen = Seen(
            done=life.progress >= max(life.needed, run["trials"] or 0),
            driver=life.locked or life.person,
            engine=engine,
            code=life.code,
            progress=life.progress,
            reason="as it was told" if life.code is not None else "",
        )
        working = life.locked and life.follows
        grown = run["trials"] is None or life.needed >= run["trials"]
        share = life.follows if life.locked else None
        return Look(seen, running=life.follows if working else 0, share=share, grown=grown)

    def start(self, run: Row) -> None:
        self.hook("start")
        self.life(run)
        self.on_their_way.append((run["id"], run["attempt"]))
        if not self.slow:
            self.arrive()
        self.hook("started")

    def arrive(self) -> None:
        """Every start that is on its way takes its claim and becomes a driver, unless the claim is taken."""
        while self.on_their_way:
            identity, number = self.on_their_way.pop()
            life = self.lives[identity]
            if number not in life.claims:
                life.claims[number] = "driver"
                self.started.append((identity, number))
                self.doubles += life.alive is not None
                life.end(None)
                life.alive = number

    def stop(self, run: Row) -> None:
        self.hook("stop")
        life = self.life(run)
        life.person = False
        if life.alive is not None:
            life.end(UNFINISHED)
        self.hook("stopped")

    def forestall(self, run: Row) -> None:
        self.hook("forestall")
        self.life(run).claims.setdefault(run["attempt"], "forestalled")
        self.hook("forestalled")

    def grow(self, run: Row) -> None:
        self.hook("grow")
        self.life(run).needed = run["trials"]

    def note(self, run: Row) -> None:
        self.notes[run["id"]] = dict(run)

    def give(self, run: Row, share: int) -> None:
        self.hook("give")
        self.life(run).share = share
        self.hook("given")

    def log(self, run: Row) -> Path | None:
        return Path(run["folder"]) / "log"

    def work(self, identity: str) -> None:
        """A moment of the driver: it takes the lock, follows its share, trains."""
        life = self.lives.get(identity)
        if life is None or (life.alive is None and not life.person):
            return
        if life.alive is not None and not life.locked:
            if life.person:  # the lock is held: it is refused
                life.end(75)
                return
            life.locked = True
        life.follows = life.share
        if life.person or life.share:
            life.progress += 1
        if life.progress >= life.needed:
            life.person = False
            life.end(0 if life.alive is not None else life.code)


class HookedStore(Store):
    """A store whose service may be killed before and after each transaction."""

    hook: Callable[[str], None] = staticmethod(lambda where: None)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        self.hook("write")
        with super().writing() as connection:
            yield connection
        self.hook("written")


def settings_in(root: Path, capacity: float = 4.0) -> Settings:
    """Settings with one local backend of so many cores."""
    place = Place("here", "local", capacity)
    return Settings(root, str(root / "runs"), f"sqlite:///{root / 'service.db'}", (), (place,))


def people_in(store: Store, **roles: str) -> dict[str, Actor]:
    """Users of these roles, and each as who asks."""
    with store.writing() as connection:
        for name, role in roles.items():
            connection.execute(USER.insert().values(name=name, role=role, created=0.0))
    return {name: Actor(name, role) for name, role in roles.items()}


def service_in(root: Path, world: World | None = None, now: Callable[[], float] = time.time) -> Service:
    """A service whose drivers are made up; its rounds are gone by the test (``service.reconciler.round()``)."""
    return Service(settings_in(root), world or World(), now=now)


def runs_in(store: Store, settings: Settings, now: Callable[[], float]) -> Runs:
    """The verbs, with a check that knows every experiment to have four trials of one core."""
    return Runs(
        store,
        settings,
        lambda text, name: Checked(trials=4, gpus=1.0, cpus=1.0),
        now=now,
    )
