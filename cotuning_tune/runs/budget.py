"""How many trials each study of a run shall have: the experiment's number, as many as its hours give, or both.

Hours are spent by rounds of one trial for each study. A round that has begun is finished, so the studies of a run
always have the same number.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from math import inf
from typing import TypedDict

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.runs.clock import Clock, monotonic
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import guard

log = logging.getLogger(__name__)
LOOK_S = 5.0  # each look is a request to an object store
HOUR = 3600.0


def check_searches(count: int | None, hours: float = 0.0) -> None:
    """Raises UserError for fewer than one search, or for repeats of one that has ``hours``; None: not asked for."""
    if count is not None and count < 1:
        raise UserError(f"--repeat-search {count}: K searches in all, 1 (no repeat) or more")
    if hours and count not in (None, 1):
        raise UserError(f"--repeat-search {count}: searches of {hours:g} hours differ in trials: name trials alone")


class Budget:
    """The number of trials per study, which may grow meanwhile: seen after some seconds, or by ``look`` at once.

    ``trials`` and ``hours``: the experiment's numbers, 0 for no limit; of two, whichever comes first. ``say`` is
    told in one line when the hours are used.
    """

    def __init__(
        self, run: RunDir | None, trials: int, hours: float = 0.0, say: Callable[[str], None] = log.warning
    ) -> None:
        self.run, self._trials, self.hours, self.say = run, trials, hours, say
        self.clock = Clock(run)
        self._rounds = 1
        self._used: _Used | None = read_json(run.time_used) if run and run.time_used.exists() else None
        self.look()

    @property
    def trials(self) -> int:
        """How many each study shall have; before the hours are used, the rounds that have begun."""
        if time.monotonic() - self._looked > LOOK_S:
            self.look()
        return self.over or self._rounds if self.hours else self._trials

    @property
    def over(self) -> int:
        """The number that was fixed when the present hours were used; 0 before."""
        return self._used["trials"] if self._used and self._used["hours"] == self.hours else 0

    @property
    def most(self) -> int:
        """How many each study will have at most."""
        return self.over or self._trials or sys.maxsize

    @property
    def until(self) -> float:
        """When the hours will be used, on this process's monotonic clock; 0 where no round will begin any more."""
        drawing = self.hours and self._rounds < self.most
        return monotonic() + HOUR * self.hours - self.clock.seconds if drawing else 0.0

    def look(self) -> None:
        """Read it again: before anything is done that more trials would make wrong."""
        self._looked = time.monotonic()
        if self.run is not None and (grown := _read(self.run)):
            self._trials, self.hours = grown.get("trials", self._trials), grown.get("hours", self.hours)

    def reached(self, drawn: int) -> None:
        """A study has drawn so many: the round of that number has begun."""
        self._rounds = max(self._rounds, drawn)

    def settle(self, fewest: int) -> None:
        """See how many there shall be, before a trial is handed out or the search ends.

        Where each study has drawn alike (``fewest``) and time is left, the next round begins. Else the number is
        fixed, on disk before anything is done that a further trial would make wrong.
        """
        if fewest >= self.trials:
            self.look()
        if not self.hours or self.over:
            return
        self.clock.start()
        if fewest < self._rounds:
            return
        if self.clock.seconds >= HOUR * self.hours:
            self._end()
        elif self._rounds < self.most:
            self._rounds += 1
        else:
            self.clock.stop()

    def _end(self) -> None:
        """The hours are used; what ran beyond them is not counted, so that an extension has its full length."""
        self.clock.stop(HOUR * self.hours)
        self.clock.keep()
        used: _Used = {"hours": self.hours, "trials": self._rounds, "time": time.time()}
        if run := self.run:
            write_json(run.time_used, used)
        self._used = used
        had = "one trial: there was no time for a second" if self._rounds == 1 else f"{self._rounds} trials"
        self.say(f"the {self.hours:g} hours of the search are used: every study has {had}")


class _Used(TypedDict):
    """``time_used.json``: at how many hours the search ended, with how many trials per study, and when."""

    hours: float
    trials: int
    time: float


class _Grown(TypedDict, total=False):
    """What ``extend`` keeps: the trials per study, the hours, where these have grown; each step to them."""

    trials: int
    hours: float
    grown: list[dict[str, object]]


def _read(run: RunDir) -> _Grown | None:
    try:
        found: _Grown = json.loads(run.budget.read_text())
    except FileNotFoundError:
        return None
    return found


def growth(run: RunDir) -> list[dict[str, object]]:
    """When the run was extended: time, number before and after, ``of`` trials or hours."""
    found = _read(run)
    return found["grown"] if found else []


def extend(run: RunDir, asked: int, more: int, hours: float = 0.0) -> int:
    """Give every study ``more`` trials; the new number. A running driver takes it over.

    UserError below 1, and where the ``hours`` that the experiment has too are used: no trial would be drawn.
    """
    if more < 1:
        raise UserError(f"--trials {more}: a run grows by at least 1 trial per study")
    with guard(run.budget):  # of several at once each adds to what the one before has written
        return _extend(run, asked, hours, f"--trials {more}", lambda before: before + more)


def extend_to(run: RunDir, asked: int, hours: float, to: int) -> int:
    """Give every study ``to`` trials in all; nothing where it has them. UserError as ``extend``, and for fewer."""
    with guard(run.budget):
        return _extend(run, asked, hours, f"--to-trials {to}", lambda before: to)


def _extend(run: RunDir, asked: int, hours: float, given: str, grown: Callable[[int], int]) -> int:
    if not asked:
        raise UserError(f"{given}: {run.path} has as many trials as its hours give: --hours H adds to them")
    before = (_read(run) or {}).get("trials", asked)
    if (after := grown(before)) == before:
        return before
    if after < before:
        raise UserError(f"{given}: every study of {run.path} has {before} trials, and none is taken away")
    size = Budget(run, asked, hours)
    if size.over:
        raise UserError(f"{given}: the {size.hours:g} hours of {run.path} are used: --hours H adds to them")
    _grow(run, {"trials": after}, before, after, "trials")
    return after


def extend_hours(run: RunDir, asked: float, more: float) -> float:
    """Give the search ``more`` hours; all that it has now. A running driver takes them over. UserError for none."""
    if not 0 < more < inf:
        raise UserError(f"--hours {more:g}: a search grows by more than 0 hours")
    if not asked:
        raise UserError(f"--hours {more:g}: {run.path} has trials and no hours: --trials N adds to them")
    with guard(run.budget):
        before = (_read(run) or {}).get("hours", asked)
        _grow(run, {"hours": before + more}, before, before + more, "hours")
    return before + more


def _grow(run: RunDir, now: _Grown, before: float, after: float, of: str) -> None:
    step: dict[str, object] = {"time": time.time(), "from": before, "to": after, "of": of}
    write_json(run.budget, {**(_read(run) or {}), **now, "grown": [*growth(run), step]})
