"""Which configuration of a study is chosen: rules over the rows of its trials, with neither optuna nor torch.

The best of many noisy accuracies looks too good, and the more trials there were, the more: ``confirm`` trains the
three best once more on another validation split and takes the highest mean.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from cotuning_tune.run.records import Confirmation, TrialRow

TOP = 3
RULES = {
    "confirm": f"of the {TOP} best, once more on another split, the highest mean accuracy; the earliest of equals",
    "max": "best validation accuracy among trials of full length; the earliest of equals",
    "loss": "lowest validation loss among trials of full length; the earliest of equals",
}
STOPPED_RULE = "no trial ran to its end: best validation accuracy among those stopped early; the earliest of equals"


def _accuracy(row: TrialRow) -> float:
    return -math.inf if row["accuracy"] is None else row["accuracy"]


def full_length(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """The trials that ran to their end, the most accurate first, the earlier of equals first."""
    done = [row for row in rows if row["state"] == "COMPLETE"]
    return sorted(done, key=lambda row: (-_accuracy(row), row["number"]))


def to_confirm(rows: Sequence[TrialRow]) -> list[int]:
    """The trials that ``confirm`` trains once more."""
    return [row["number"] for row in full_length(rows)[:TOP]]


def confirmed(rows: Sequence[TrialRow], again: Sequence[Confirmation]) -> dict[int, list[float]]:
    """Validation accuracies (%) by trial: of the search, then on the other split; without those that failed there."""
    values = {row["number"]: row["accuracy"] for row in rows}
    wanted = to_confirm(rows)
    found: dict[int, list[float]] = {}
    for one in again:
        own = values.get(one["confirms"])
        if one["confirms"] in wanted and own is not None and one["accuracy"] is not None:
            found[one["confirms"]] = [own, one["accuracy"]]
    return found


def rule_text(row: TrialRow, rule: str) -> str:
    """The rule by which a trial was chosen."""
    return RULES[rule] if row["state"] == "COMPLETE" else STOPPED_RULE


def choose(rows: Sequence[TrialRow], again: Sequence[Confirmation], rule: str) -> TrialRow | None:
    """The chosen trial: by the rule among those of full length, else the most accurate that was stopped early."""
    done = full_length(rows)
    if not done:
        stopped = [row for row in rows if row["state"] == "PRUNED" and row["accuracy"] is not None]
        return max(stopped, key=lambda row: (_accuracy(row), -row["number"]), default=None)
    if rule == "loss":
        return min(done, key=lambda row: (_loss(row), row["number"]))
    means = {number: fmean(pair) for number, pair in confirmed(rows, again).items()} if rule == "confirm" else {}
    if not means:
        return done[0]
    best = max(means, key=lambda number: (means[number], -number))
    return next(row for row in done if row["number"] == best)


def _loss(row: TrialRow) -> float:
    return math.inf if row["loss"] is None else row["loss"]


def judged(row: TrialRow, again: Sequence[Confirmation], rows: Sequence[TrialRow], rule: str) -> float:
    """The validation accuracy (%) that the choice went by: with ``confirm`` the mean of both splits."""
    pairs: Mapping[int, list[float]] = confirmed(rows, again) if rule == "confirm" else {}
    return fmean(pairs.get(row["number"], [_accuracy(row)]))
