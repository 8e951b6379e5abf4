"""How many trials each study of a run shall have: the experiment's number, grown by ``extend``."""

import json
import time

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.run.folder import RunDir


class Budget:
    """The present number of trials per study; a running driver sees it grow. ``asked``: the experiment's number."""

    def __init__(self, run: RunDir | None, asked: int) -> None:
        self.run, self.budget = run, asked
        self._stamp, self._trials = -1, asked

    @property
    def trials(self) -> int:
        """Read again when the file has changed."""
        if self.run is None:
            return self.budget
        try:
            stamp = self.run.budget.stat().st_mtime_ns
        except FileNotFoundError:
            return self.budget
        if stamp != self._stamp:
            self._stamp, self._trials = stamp, int(read_json(self.run.budget)["trials"])
        return self._trials


def growth(run: RunDir) -> list[dict[str, object]]:
    """When the run was extended: time, number of trials before and after."""
    try:
        grown: list[dict[str, object]] = json.loads(run.budget.read_text())["grown"]
        return grown
    except FileNotFoundError:
        return []


def extend(run: RunDir, asked: int, more: int) -> int:
    """Give every study ``more`` trials; the new number. A running driver takes it over. UserError below 1."""
    if more < 1:
        raise UserError(f"--trials {more}: a run grows by at least 1 trial per study")
    before = Budget(run, asked).trials
    step = {"time": time.time(), "from": before, "to": before + more}
    write_json(run.budget, {"trials": before + more, "grown": [*growth(run), step]})
    return before + more
