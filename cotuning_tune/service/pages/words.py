"""How pages say things: times, numbers with their units, the state of a run in a sentence."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from cotuning_tune.runs.events import best_of
from cotuning_tune.scores import METRICS, metric_of

STEPS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
SHOWN = {"waiting": "waiting for nodes"}  # where the state's own name is too short
TRIAL_STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}
MOVING = ("queued", "starting", "waiting", "running", "pausing", "interrupted")
SENTENCES = {
    "queued": "It is in the queue and begins as soon as it fits.",
    "starting": "Its driver is being started.",
    "waiting": "The cluster has taken it and has no room for it yet; there is nothing to do.",
    "running": "Its driver hands out trials.",
    "pausing": "Its trainings are being stopped; what they have learned is kept.",
    "paused": "Resume continues it where it stopped.",
    "interrupted": "It starts again by itself.",
    "done": "All that was asked for is there. Extend asks for more trials.",
    "failed": "Put right what the reason says, then resume it: what it has done is kept.",
    "cancelled": "Its folder is kept, and resume continues it.",
}


def element(form: str, *values: object) -> Markup:
    """An element by its form, one of ours, with values that are escaped."""
    return Markup(form).format(*values)  # nosec B704 # the values are escaped by format


def duration(seconds: float) -> str:
    """Seconds in a unit of their size: ``45 s``, ``12 min``, ``3.4 h``.

    >>> duration(12240), duration(-3), duration(86400)
    ('3.4 h', '0 s', '24 h')
    """
    seconds = max(seconds, 0.0)
    size, unit = next(((size, unit) for size, unit in STEPS if seconds >= size * (2 if size > 3600 else 1)), STEPS[-1])
    value = seconds / size
    return f"{value:.1f} {unit}" if value < 10 and size > 60 and not value.is_integer() else f"{value:.0f} {unit}"


def when(time: float | None, now: float) -> Markup:
    """A moment (seconds since 1970) as words, with the exact time for whoever points at it; a dash of none."""
    if time is None:
        return Markup("–")
    exact = dt.datetime.fromtimestamp(time, dt.UTC)
    gap = now - time
    words = "just now" if abs(gap) < 1.5 else f"{duration(gap)} ago" if gap > 0 else f"in {duration(-gap)}"
    form = '<time datetime="{}" title="{} UTC">{}</time>'
    return element(form, exact.isoformat(timespec="seconds"), f"{exact:%Y-%m-%d %H:%M:%S}", words)


def number(value: object) -> str:
    """A number with at most four digits, anything else as it is; a dash of None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def bounded(limit: object) -> str:
    """A limit, or that there is none."""
    return "no limit" if limit is None else number(limit)


def state(name: str) -> str:
    """A run's state."""
    return SHOWN.get(name, name)


def trial_state(name: str) -> str:
    """A trial's state."""
    return TRIAL_STATES.get(name, name.lower())


def sentence(run: Mapping[str, Any]) -> str:
    """Where a run stands and what comes next."""
    if run["state"] == "queued" and run["waits"]:
        return f"It waits: {run['waits']}."
    if run["state"] == "pausing" and run["wanted"] == "cancel":
        return "Its trainings are being stopped; then it is cancelled, and its folder is kept."
    return SENTENCES.get(run["state"], "")


def score(value: object, metric: str = "") -> str:
    """A score with its unit, of the metric of that name; a dash where there is none."""
    if not isinstance(value, int | float):
        return "–"
    judged = metric_of(metric if metric in METRICS else "")
    return f"{judged.text(value)}{judged.unit}"


def best(summary: Mapping[str, Any]) -> str:
    """The best validation score of a run so far; a dash where there is none."""
    found = summary.get("best")
    metrics = {k: v for k, v in (summary.get("metrics") or {}).items() if v in METRICS}
    if isinstance(found, Mapping) and found:
        return best_of(found, metrics).removeprefix("best val. ")
    return score(found, str(summary.get("metric", "")))


def left(summary: Mapping[str, Any]) -> str:
    """About how long a run still takes: what is to be trained, at the pace of what was; '' where that is not known."""
    ended = summary.get("done", 0) + summary.get("retrained", 0)
    rest = summary.get("budget", 0) + summary.get("retrain_budget", 0) - ended
    running, hours = summary.get("running", 0), summary.get("trial_hours", 0.0)
    return duration(3600 * hours / ended * rest / running) if ended and running and hours and rest > 0 else ""


FILTERS = {
    "duration": duration,
    "number": number,
    "bounded": bounded,
    "state": state,
    "trial_state": trial_state,
    "sentence": sentence,
    "score": score,
    "best": best,
    "left": left,
}
