"""Which configuration of a study is chosen: rules over the rows of its trials, with neither optuna nor torch.

The best of many noisy scores looks too good, and the more trials there were, the more: ``confirm`` trains the
three best once more on another validation split and takes the best mean.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import cast

from cotuning_tune.runs.records import Confirmation, TrialRow
from cotuning_tune.scores import Metric

TOP = 3
_TEXTS = {
    "confirm": f"of the {TOP} best, once more on another split, the {{best}} mean {{shown}}; the earliest of equals",
    "max": "best validation {shown} among trials of full length; the earliest of equals",
    "loss": "lowest validation loss among trials of full length; the earliest of equals",
}
_STOPPED = "no trial ran to its end: best validation {shown} among those stopped early; the earliest of equals"
RULES = tuple(_TEXTS)


def _oriented(row: TrialRow, metric: Metric) -> float:
    """The greater, the better; of a trial without a score the least."""
    return -math.inf if row["score"] is None else metric.oriented(row["score"])


def full_length(rows: Sequence[TrialRow], metric: Metric) -> list[TrialRow]:
    """The trials that ran to their end, the best first, the earlier of equals first."""
    done = [row for row in rows if row["state"] == "COMPLETE"]
    return sorted(done, key=lambda row: (-_oriented(row, metric), row["number"]))


def to_confirm(rows: Sequence[TrialRow], metric: Metric) -> list[int]:
    """The trials that ``confirm`` trains once more."""
    return [row["number"] for row in full_length(rows, metric)[:TOP]]


def confirmed(rows: Sequence[TrialRow], again: Sequence[Confirmation], metric: Metric) -> dict[int, list[float]]:
    """Validation scores by trial: of the search, then on the other split; without those that failed there."""
    values = {row["number"]: row["score"] for row in rows}
    wanted = to_confirm(rows, metric)
    found: dict[int, list[float]] = {}
    for one in again:
        own = values.get(one["confirms"])
        if one["confirms"] in wanted and own is not None and one["score"] is not None:
            found[one["confirms"]] = [own, one["score"]]
    return found


def rule_text(row: TrialRow, rule: str, metric: Metric) -> str:
    """The rule by which a trial was chosen."""
    text = _TEXTS[rule] if row["state"] == "COMPLETE" else _STOPPED
    return text.format(shown=metric.shown, best="highest" if metric.greater_is_better else "lowest")


def rule_of(text: str, metric: Metric) -> str:
    """The name of the rule that a trial of full length was chosen by, as ``rule_text`` tells it."""
    full = cast(TrialRow, {"state": "COMPLETE"})
    return next((rule for rule in RULES if rule_text(full, rule, metric) == text), "max")


def choose(rows: Sequence[TrialRow], again: Sequence[Confirmation], rule: str, metric: Metric) -> TrialRow | None:
    """The chosen trial: by the rule among those of full length, else the best that was stopped early."""
    done = full_length(rows, metric)
    if not done:
        stopped = [row for row in rows if row["state"] == "PRUNED" and row["score"] is not None]
        return max(stopped, key=lambda row: (_oriented(row, metric), -row["number"]), default=None)
    if rule == "loss":
        return min(done, key=lambda row: (_loss(row), row["number"]))
    pairs = confirmed(rows, again, metric) if rule == "confirm" else {}
    means = {number: metric.oriented(fmean(pair)) for number, pair in pairs.items()}
    if not means:
        return done[0]
    best = max(means, key=lambda number: (means[number], -number))
    return next(row for row in done if row["number"] == best)


def _loss(row: TrialRow) -> float:
    return math.inf if row["loss"] is None else row["loss"]


def judged(row: TrialRow, again: Sequence[Confirmation], rows: Sequence[TrialRow], rule: str, metric: Metric) -> float:
    """The validation score that the choice went by: with ``confirm`` the mean of both splits."""
    pairs: Mapping[int, list[float]] = confirmed(rows, again, metric) if rule == "confirm" else {}
    return fmean(pairs.get(row["number"], [math.nan if row["score"] is None else row["score"]]))
