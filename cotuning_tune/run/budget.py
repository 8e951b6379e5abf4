"""How many trials each study of a run shall have: the experiment's number, grown by ``extend``."""

import json
import time
from typing import TypedDict

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_json
from cotuning_tune.run.folder import RunDir

LOOK_S = 5.0  # each look is a request to an object store


class Budget:
    """The number of trials per study, which may grow meanwhile: seen after some seconds, or by ``look`` at once.

    ``asked``: the experiment's number.
    """

    def __init__(self, run: RunDir | None, asked: int) -> None:
        self.run, self._trials = run, asked
        self.look()

    @property
    def trials(self) -> int:
        if time.monotonic() - self._looked > LOOK_S:
            self.look()
        return self._trials

    def look(self) -> None:
        """Read it again: before anything is done that more trials would make wrong."""
        self._looked = time.monotonic()
        if self.run is not None and (grown := _read(self.run)):
            self._trials = grown["trials"]


class _Grown(TypedDict):
    """What ``extend`` keeps: the number of trials per study, and each step to it."""

    trials: int
    grown: list[dict[str, object]]


def _read(run: RunDir) -> _Grown | None:
    try:
        found: _Grown = json.loads(run.budget.read_text())
    except FileNotFoundError:
        return None
    return found


def growth(run: RunDir) -> list[dict[str, object]]:
    """When the run was extended: time, number of trials before and after."""
    found = _read(run)
    return found["grown"] if found else []


def extend(run: RunDir, asked: int, more: int) -> int:
    """Give every study ``more`` trials; the new number. A running driver takes it over. UserError below 1."""
    if more < 1:
        raise UserError(f"--trials {more}: a run grows by at least 1 trial per study")
    before = Budget(run, asked).trials
    step = {"time": time.time(), "from": before, "to": before + more}
    write_json(run.budget, {"trials": before + more, "grown": [*growth(run), step]})
    return before + more
