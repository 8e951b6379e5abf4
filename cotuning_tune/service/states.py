"""What becomes of a run: from what is known, wanted and seen, the one next step. Pure, and the only place for it.

```
queued ─► starting ─► waiting ─► running ─► done │ failed
  ▲ ▲        └───────────┬──────────┤
  │ │               pausing    interrupted (unfinished, killed, gone)
  │ └─ resume ◄─ paused             │
  └──────────── backoff ◄───────────┘
cancelled: from any state before done; the folder is kept
```
"""

from dataclasses import dataclass, replace
from typing import Literal

from cotuning_tune.base.endings import FAILED, HELD, MISTAKE

State = Literal[
    "queued", "starting", "waiting", "running", "pausing", "paused", "interrupted", "done", "failed", "cancelled"
]
Wanted = Literal["run", "pause", "cancel"]
Engine = Literal["absent", "queued", "running", "ended"]
Action = Literal["", "start", "stop", "forestall"]
AT_WORK: tuple[State, ...] = ("starting", "waiting", "running", "pausing")
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
IDLE: tuple[State, ...] = ("queued", "paused", "interrupted")
PATIENCE = 5  # attempts in a row without a new epoch
BACKOFF_S, BACKOFF_MOST_S = 10.0, 600.0


@dataclass(frozen=True)
class Known:
    """What the database says of a run. ``progress``: epochs (or what counts them) that an earlier look has seen;
    ``failures``: attempts in a row that ended without more; times in seconds since 1970."""

    state: State = "queued"
    wanted: Wanted = "run"
    attempt: int = 0
    failures: int = 0
    backoff_until: float = 0.0
    progress: int = 0
    unreachable_since: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Seen:
    """What a look at the run's folder and its engine has found.

    ``done``: the folder holds all that is asked for; ``driver``: somebody holds the run's lock, and lives or is not
    known to be dead; ``engine``: of the present attempt, ``absent`` where nothing of its name was ever started;
    ``code``: with which exit code the attempt said that it ended, None where it said nothing (killed, gone).
    """

    done: bool = False
    driver: bool = False
    engine: Engine = "absent"
    code: int | None = None
    progress: int = 0
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether something works on the run, or will."""
        return self.driver or self.engine in ("queued", "running")


@dataclass(frozen=True)
class Step:
    """What the database shall say, and what is then to be done."""

    known: Known
    action: Action = ""


def decide(known: Known, seen: Seen | None, now: float) -> Step:
    """The next step; ``seen``: None where the folder or the engine cannot be reached: nothing is started or ended."""
    if known.state in ENDED:
        return Step(known)
    if seen is None:
        return Step(replace(known, unreachable_since=known.unreachable_since or now))
    more = seen.progress > known.progress
    known = replace(known, unreachable_since=None, progress=seen.progress, failures=0 if more else known.failures)
    if seen.alive:
        return _alive(known, seen)
    if seen.done:
        return Step(replace(known, state="done", reason=""))
    if known.wanted != "run":
        return _unwanted(known, seen)
    if known.state == "queued":
        return Step(known)
    if known.state == "paused":
        return Step(replace(known, state="queued", reason="", failures=0))
    if known.state == "interrupted":
        over = now >= known.backoff_until
        return Step(replace(known, state="queued") if over else known)
    if known.state == "starting" and seen.engine == "absent":
        return Step(known, "start")  # again, with the same number
    return Step(_ended(known, seen, now, more=more))


def _alive(known: Known, seen: Seen) -> Step:
    if known.wanted != "run":
        return Step(replace(known, state="pausing"), "stop")
    if seen.driver:
        return Step(replace(known, state="running", reason=""))
    if seen.engine == "queued":
        return Step(replace(known, state="waiting"))
    return Step(replace(known, state=known.state if known.state in AT_WORK else "starting"))


def _unwanted(known: Known, seen: Seen) -> Step:
    """Nothing works on it. A start that may still be on its way is forestalled first, by taking its claim."""
    if known.state in ("starting", "pausing") and known.attempt and seen.engine == "absent":
        return Step(replace(known, state="pausing"), "forestall")
    if known.wanted == "cancel":
        return Step(replace(known, state="cancelled", reason=""))
    return Step(replace(known, state="paused", reason=""))


def _ended(known: Known, seen: Seen, now: float, *, more: bool) -> Known:
    """An attempt has ended before the run was done."""
    if seen.code in (FAILED, MISTAKE):
        return replace(known, state="failed", reason=seen.reason)
    if seen.code == HELD:  # by somebody who has left since
        return replace(known, state="interrupted", backoff_until=now + BACKOFF_S, reason=seen.reason)
    failures = 0 if more else known.failures + 1
    reason = seen.reason or "the driver was killed, or its machine has gone"
    if failures >= PATIENCE:
        return replace(
            known, state="failed", failures=failures, reason=f"{failures} times without a new epoch: {reason}"
        )
    pause = min(BACKOFF_S * 2 ** max(failures - 1, 0), BACKOFF_MOST_S)
    return replace(known, state="interrupted", failures=failures, backoff_until=now + pause, reason=reason)


def wish(known: Known, wanted: Wanted) -> Known | None:
    """What the database shall say after pause, resume (run) or cancel; None where that is not to be had any more.

    Repeating a wish changes nothing.
    """
    if wanted == "cancel":
        return None if known.state in ("done", "failed") else replace(known, wanted=wanted)
    if wanted == "pause":
        return None if known.state in ENDED else replace(known, wanted=wanted)
    if known.state == "done":
        return None
    resumed = replace(known, wanted="run", backoff_until=0.0)
    if known.state in ("failed", "cancelled", "paused"):
        return replace(resumed, state="queued", failures=0, reason="")
    return resumed
