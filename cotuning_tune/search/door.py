"""The one door to an Optuna storage: a call that finds it away is repeated, with growing pauses, and done once."""

import logging
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential

from cotuning_tune.base.errors import Unfinished, first_line
from cotuning_tune.base.secrets import masked

log = logging.getLogger(__name__)
PATIENCE_S = 600.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 15.0
LIBRARIES = ("sqlalchemy", "psycopg")
T = TypeVar("T")


def is_outage(problem: BaseException) -> bool:
    """Whether it tells of a database that is away, busy or full: an error of its own, or as Optuna wraps it."""
    return isinstance(problem, StorageInternalError) or type(problem).__module__.split(".")[0] in LIBRARIES


def reason_of(problem: BaseException) -> str:
    """What a database said, in a line: Optuna hides it behind a sentence of its own."""
    return masked(first_line(problem.__cause__ or problem))


def patiently(call: Callable[[], T], say: Callable[[str], None] = log.warning) -> T:
    """What ``call`` gives, however often the storage is away meanwhile.

    Says once that it waits, and when it continues. Raises Unfinished after ``PATIENCE_S``.
    """
    told: list[bool] = []

    def pausing(state: RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome else None
        if problem and not told:
            say(f"paused: the storage of the studies does not answer ({reason_of(problem)}); continues by itself")
            told.append(True)

    try:
        for attempt in Retrying(
            retry=retry_if_exception(is_outage),
            wait=wait_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
            stop=stop_after_delay(PATIENCE_S),
            before_sleep=pausing,
            reraise=True,
        ):
            with attempt:
                found = call()
    except Exception as problem:
        if not is_outage(problem):
            raise
        minutes = PATIENCE_S / 60
        raise Unfinished(
            f"the storage of the studies has not answered for {minutes:.0f} min ({reason_of(problem)})"
        ) from problem
    if told:
        say("continuing: the storage of the studies answers again")
    return found


class Door:
    """Calls of a storage; ``say`` is told when one has to wait. Of a call that may have been done it looks first."""

    def __init__(self, storage: BaseStorage, say: Callable[[str], None] = log.warning) -> None:
        self.storage, self.say = storage, say

    def __call__(self, call: Callable[[BaseStorage], T], done: Callable[[BaseStorage], T | None] | None = None) -> T:
        """``call(storage)``, repeated on outages.

        ``done(storage)``: what an earlier try has given, None where it has changed nothing: the answer of a call that
        is not idempotent may have been lost with the connection.
        """
        tries = 0

        def once() -> T:
            nonlocal tries
            tries += 1
            if tries > 1 and done is not None and (found := done(self.storage)) is not None:
                return found
            return call(self.storage)

        return patiently(once, self.say)
