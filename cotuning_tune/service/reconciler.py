"""The one place that starts and stops runs: a round looks at each run, decides, writes down, and acts.

What it writes down comes before what it does, so a death between the two is put right by the next round: a start is
repeated with the same number, a stop is asked for again.
"""

import dataclasses
import logging
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa

from cotuning_tune.base.errors import UserError
from cotuning_tune.service.engine import Engine, Look, Row
from cotuning_tune.service.hooks import enqueue
from cotuning_tune.service.queue import Demand, Person, admit, fair, handed_on, recent
from cotuning_tune.service.states import AT_WORK, ENDED, Known, Step, decide
from cotuning_tune.service.store import Store, tell
from cotuning_tune.service.tables import ATTEMPT, RUN, USER

log = logging.getLogger(__name__)
ROUND_S = 1.0
LOOKS = 8  # at a time
SIZES_S = 300.0  # for so long the size of a folder is good
COUNTS_S = 10.0  # between two writes of an attempt's hours, while it takes as much as before
MONTH_S = 30 * 86400.0
FIELDS = tuple(field.name for field in dataclasses.fields(Known))


def known(run: Row) -> Known:
    """The part of a run's row that decides."""
    return Known(**{name: run[name] for name in FIELDS})


class Reconciler:
    """Brings what runs in line with what is wanted. ``now``: seconds since 1970."""

    def __init__(self, store: Store, engine: Engine, now: Callable[[], float] = time.time) -> None:
        self.store, self.engine, self.now = store, engine, now
        self.beat = 0.0
        self._sizes: dict[str, tuple[float, int]] = {}
        self._noted: dict[str, dict[str, Any]] = {}
        self._counted: dict[str, tuple[float, float]] = {}  # when, and for how many units
        self._stopped, self._woken = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(LOOKS, thread_name_prefix="look")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Go round in a thread of its own."""
        self._thread = threading.Thread(target=self._go, name="reconciler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No further round; drivers stay."""
        self._stopped.set()
        self._woken.set()
        if self._thread:
            self._thread.join(10.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Go round at once: something was asked for."""
        self._woken.set()

    def _go(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                self.round()
            except Exception:  # a database that is away: the next round will see
                log.exception("a round of the reconciler failed")
            self.beat = time.monotonic()
            self._woken.wait(ROUND_S)

    def round(self) -> None:
        """Look at every run that has not ended, and do what is to be done."""
        runs = self._open_runs()
        looks = dict(zip([run["id"] for run in runs], self._pool.map(self.engine.look, runs), strict=True))
        for run in runs:
            self._step(run, looks[run["id"]])
        still = self._open_runs()
        people = self.people(self.now()) if still else {}
        for backend in sorted({run["backend"] for run in still}):
            self._deal({run["id"]: run for run in still if run["backend"] == backend}, looks, people)

    def _open_runs(self) -> list[dict[str, Any]]:
        with self.store.reading() as connection:
            query = sa.select(RUN).where(RUN.c.state.not_in(ENDED)).order_by(RUN.c.seq)
            return [dict(row) for row in connection.execute(query).mappings()]

    def _step(self, run: dict[str, Any], look: Look) -> None:
        step = decide(known(run), look.seen, self.now())
        if self._write(run, step, look):
            now = run | dataclasses.asdict(step.known)
            self._act(now, step.action)
            self._note(now)
            if not look.grown and look.seen is not None:
                self._act(now, "grow")

    def _write(self, run: dict[str, Any], step: Step, look: Look) -> bool:
        """Write a step down, one compare-and-set; False where somebody has changed the run meanwhile."""
        changes = {name: value for name in FIELDS if (value := getattr(step.known, name)) != run[name]}
        if look.summary and look.summary != run["summary"]:
            changes["summary"] = look.summary
        if step.known.state != "queued" and run["waits"]:
            changes["waits"] = ""
        now = self.now()
        self._count(run, step.known, now)
        if not changes:
            return True
        with self.store.writing() as connection:
            return changed(connection, run, changes, now)

    def _count(self, run: Row, after: Known, now: float) -> None:
        """The hours of an attempt, as long as its end is not confirmed."""
        if not run["attempt"] or run["state"] not in AT_WORK:
            return
        units = max(run["share"], run["least"]) * run["cost"]
        when, before = self._counted.get(run["id"], (-math.inf, 0.0))
        if after.state in AT_WORK and before == units and 0 <= now - when < COUNTS_S:
            return
        self._counted[run["id"]] = now, units
        with self.store.writing() as connection:
            where = sa.and_(ATTEMPT.c.run == run["id"], ATTEMPT.c.number == run["attempt"])
            found = connection.execute(sa.select(ATTEMPT).where(where)).mappings().first()
            if found is None or found["ended"] is not None:
                return
            hours = found["hours"] + max(now - found["counted"], 0.0) / 3600 * found["units"]
            end = {} if after.state in AT_WORK else {"ended": now, "state": after.state, "reason": after.reason}
            connection.execute(ATTEMPT.update().where(where).values(hours=hours, counted=now, units=units, **end))

    def _note(self, run: Row) -> None:
        """What the folder shall know is written where it has changed, by this round or by a person since."""
        told = {name: run[name] for name in ("state", "wanted", "attempt", "trials", "labels", "priority", "archived")}
        if self._noted.get(run["id"]) != told:
            try:
                self.engine.note(run)
                self._noted[run["id"]] = told
            except Exception as problem:  # a storage that is away
                log.warning("the note of %s: %s", run["id"], problem)

    def _act(self, run: Row, action: str) -> None:
        try:
            if action == "start":
                self.engine.start(run)
            elif action == "stop":
                self.engine.stop(run)
            elif action == "forestall":
                self.engine.forestall(run)
            elif action == "grow":
                self.engine.grow(run)
        except UserError as problem:
            self._fail(run, str(problem))
        except Exception as problem:  # an engine that is away: the next round tries again with the same number
            log.warning("%s of %s: %s", action, run["id"], problem)

    def _fail(self, run: Row, reason: str) -> None:
        with self.store.writing() as connection:
            row = connection.execute(sa.select(RUN).where(RUN.c.id == run["id"])).mappings().one()
            changed(connection, dict(row), {"state": "failed", "reason": reason}, self.now())

    def _deal(self, runs: dict[str, dict[str, Any]], looks: dict[str, Look], people: dict[str, Person]) -> None:
        """Admit who may begin of the runs on a backend, and give each its share of it."""
        capacity = self.engine.capacity(next(iter(runs.values()))["backend"])
        demands = [_demand(run, looks.get(run["id"], Look(None)), capacity) for run in runs.values()]
        active = [one for one in demands if runs[one.id]["state"] in AT_WORK]
        wanting = [one for one in demands if (runs[one.id]["state"], runs[one.id]["wanted"]) == ("queued", "run")]
        found = admit(wanting, active, capacity, people)
        for one, reason in found.waiting:
            self._say(runs[one.id], reason)
        active += found.admitted
        given = handed_on(active, fair(active, capacity, people), capacity)
        begun = [one for one in found.admitted if self._begin(runs[one.id])]
        for one in active:
            if given[one.id] != runs[one.id]["share"] or one in begun:
                self._give(runs[one.id], given[one.id])
        for one in begun:
            self._act(runs[one.id], "start")

    def _begin(self, run: dict[str, Any]) -> bool:
        """Write down that the next attempt starts, before it does."""
        now = self.now()
        changes = {"state": "starting", "attempt": run["attempt"] + 1, "reason": "", "waits": ""}
        with self.store.writing() as connection:
            if not changed(connection, run, changes, now):
                return False
            units = run["least"] * run["cost"]
            row = {"run": run["id"], "number": run["attempt"], "started": now, "counted": now, "units": units}
            connection.execute(ATTEMPT.insert().values(**row))
        return True

    def _say(self, run: dict[str, Any], reason: str) -> None:
        if run["waits"] != reason:
            with self.store.writing() as connection:
                changed(connection, run, {"waits": reason}, self.now())

    def _give(self, run: dict[str, Any], share: int) -> None:
        try:
            self.engine.give(run, share)
        except OSError as problem:
            log.warning("the share of %s: %s", run["id"], problem)
            return
        with self.store.writing() as connection:
            changed(connection, run, {"share": share}, self.now())

    def _stored(self, run: dict[str, Any], now: float) -> int:
        """Bytes of a run's folder, as they were some minutes ago at most."""
        looked, found = self._sizes.get(run["id"], (0.0, 0))
        if now - looked > SIZES_S:
            try:
                found = self.engine.stored(run)
            except OSError:  # files come and go below it: what was found before holds
                log.debug("the size of %s changes", run["folder"])
            self._sizes[run["id"]] = (now, found)
        return found

    def people(self, now: float) -> dict[str, Person]:
        """Every user with his limits and what he has used."""
        with self.store.reading() as connection:
            users = connection.execute(sa.select(USER)).mappings().all()
            query = sa.select(RUN.c.owner, ATTEMPT.c.counted, ATTEMPT.c.hours).join(RUN, RUN.c.id == ATTEMPT.c.run)
            rows = connection.execute(query.where(ATTEMPT.c.counted > now - 2 * MONTH_S)).all()
            bounded = [user["name"] for user in users if user["disk"] is not None]
            held = (
                connection.execute(sa.select(RUN).where(RUN.c.owner.in_(bounded))).mappings().all() if bounded else []
            )
        uses = defaultdict[str, list[tuple[float, float]]](list)
        for owner, counted, hours in rows:
            uses[owner].append((counted, hours))
        stored = Counter[str]()
        for run in held:
            stored[run["owner"]] += self._stored(dict(run), now)
        return {user["name"]: _person(dict(user), uses[user["name"]], stored[user["name"]], now) for user in users}


def _person(user: Row, uses: list[tuple[float, float]], stored: int, now: float) -> Person:
    limits = {name: float(user[name]) for name in ("units", "runs", "hours", "disk") if user[name] is not None}
    month = sum(hours for time, hours in uses if time > now - MONTH_S)
    return Person(user["name"], user["weight"], used=recent(uses, now), month=month, stored=stored, **limits)


def _demand(run: Row, look: Look, capacity: float) -> Demand:
    most = run["most"] or int(capacity / run["cost"] + 1e-9)
    if run["wanted"] != "run":  # it is ending: no more than it has
        most = run["least"]
    return Demand(
        id=run["id"],
        owner=run["owner"],
        cost=run["cost"],
        least=run["least"],
        most=max(most, run["least"]),
        priority=run["priority"],
        since=run["created"],
        running=look.running,
        share=run["share"] if look.share is None else look.share,
        name=run["name"],
    )


def changed(connection: sa.Connection, run: dict[str, Any], changes: dict[str, Any], now: float) -> bool:
    """Change a run's row unless somebody has changed it since it was read; a change of its state is an event.

    ``run`` has the changes then.
    """
    since = {"since": now} if changes.get("state", run["state"]) != run["state"] else {}
    values = {**changes, **since, "changed": now, "version": run["version"] + 1}
    where = sa.and_(RUN.c.id == run["id"], RUN.c.version == run["version"])
    if not connection.execute(RUN.update().where(where).values(**values)).rowcount:
        return False
    run.update(values)
    if since or "unreachable_since" in changes:
        content = {name: run[name] for name in ("state", "reason", "attempt", "wanted", "unreachable_since")}
        event = tell(connection, now, run["id"], "state", content)
        if since:
            enqueue(connection, now, run["id"], run["state"], event)
    return True
