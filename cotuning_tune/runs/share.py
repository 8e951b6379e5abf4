"""How many trainings of a run may run at the same time, as others set it while its driver works (``share.json``).

The driver takes a change over by itself: nothing that runs is ended, what ends is not followed by another one.
"""

import json
import logging
import time
from collections.abc import Callable

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, write_json
from cotuning_tune.runs.folder import RunDir

log = logging.getLogger(__name__)
LOOK_S = 1.0
LOOK_FAR_S = 5.0  # each look is a request to an object store


def check_concurrent(most: int | None) -> None:
    """Raises UserError where a driver shall have less than one training at a time; None: as many as fit."""
    if most is not None and most < 1:
        raise UserError(f"--concurrent {most}: at least 1 training at a time is needed")


def write_share(run: RunDir, trials: int | None) -> None:
    """Let at most ``trials`` of the run's trainings run at the same time: 0 holds it, None takes the limit away.

    Raises UserError below 0.
    """
    if trials is None:
        run.share.unlink(missing_ok=True)
    elif trials < 0:
        raise UserError(f"a share of {trials} trials: 0 (hold the run) or more")
    else:
        write_json(run.share, {"trials": trials})


class Share:
    """The share of a run, read again after ``every`` seconds.

    What cannot be read, or is not a share, changes nothing: the last good value holds, and ``say`` is told so once.
    """

    def __init__(self, run: RunDir, say: Callable[[str], None] = log.warning) -> None:
        self.run, self.say, self.every = run, say, LOOK_S if is_local(run.path) else LOOK_FAR_S
        self._trials: int | None = None
        self._refused: str | None = None
        self._looked = float("-inf")

    @property
    def trials(self) -> int | None:
        """How many trainings may run at the same time; None: as many as fit."""
        now = time.monotonic()
        if now - self._looked >= self.every:
            self._looked = now
            self._look()
        return self._trials

    def _look(self) -> None:
        try:
            text = self.run.share.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._trials = self._refused = None
            return
        except Exception:  # an object store raises more than OSError
            return
        if (found := _trials_in(text)) is not None:
            self._trials, self._refused = found, None
        elif text != self._refused:
            self._refused = text
            kept = "no limit" if self._trials is None else f"{self._trials} at a time"
            self.say(f'{self.run.share} is not {{"trials": N}} with N of 0 or more: {kept} still holds')


def _trials_in(text: str) -> int | None:
    """The number in the text of a share; None where it has none."""
    try:
        trials = json.loads(text)["trials"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return trials if type(trials) is int and trials >= 0 else None
