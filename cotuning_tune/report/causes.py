"""What trials that fail, or end at chance (diverged without NaN), have in common: the simplest condition for most.

A condition is an option, or a number above or below a limit, or both; method and setting are options too. It covers
most of them, holds mostly for them, and stands out among all the conditions that were tried.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from cotuning_tune.report.advice import Advice, Space, is_ordered, rounded
from cotuning_tune.report.results import StudyResult

LEAST = 3
LEVEL = 0.05
SIMPLER = 0.05  # by so much (F1) a simpler condition may fit worse
RATE = "optim/lr"
INFRASTRUCTURE = "infrastructure:"  # so begins the reason of a failure that is not the trial's own


@dataclass(frozen=True)
class Row:
    """A trial: its values with method and setting, how it ended, and its values of the training's parameters."""

    values: dict[str, Any]
    end: Literal["", "fail", "end at chance"]
    point: tuple[Any, ...]


@dataclass(frozen=True)
class Condition:
    """What holds: ``options`` (key: value), and where there is a ``key``, its number lies above or below ``limit``."""

    options: dict[str, Any]
    key: str = ""
    above: bool = True
    limit: float = 0.0

    def concerns(self, values: Mapping[str, Any]) -> bool:
        """Whether the options hold and the number is there."""
        return self.options.items() <= values.items() and (not self.key or self.key in values)

    def beyond(self, value: float) -> bool:
        return value >= self.limit if self.above else value <= self.limit

    def holds(self, values: Mapping[str, Any]) -> bool:
        return self.concerns(values) and (not self.key or self.beyond(values[self.key]))

    @property
    def parts(self) -> int:
        return len(self.options) + bool(self.key)

    def __str__(self) -> str:
        number = [f"{self.key} is at {'least' if self.above else 'most'} {self.limit:.3g}"] if self.key else []
        return " and ".join([*number, *(f"{key} = {option}" for key, option in self.options.items())])


@dataclass(frozen=True)
class Cause:
    """A condition with its counts of trials and of bad ones; ``fit`` (F1): 1 where it holds for just the bad ones."""

    condition: Condition
    inside: int
    hits: int
    fit: float


def _rows(space: Space, studies: list[StudyResult]) -> list[Row]:
    """The trials that ran to their end or failed by their own fault."""
    shared = [key for key, search in space.searched.items() if search["of"] == "train"]
    rows = []
    for study in studies:
        for trial in study.trials:
            failed = trial["state"] == "FAIL" and not trial.get("reason", "").startswith(INFRASTRUCTURE)
            if failed or trial["state"] == "COMPLETE":
                values = {**trial["values"], "method": study.method, "setting": study.setting}
                end: Literal["", "fail", "end at chance"] = "end at chance" if study.at_chance(trial) else ""
                rows.append(Row(values, "fail" if failed else end, tuple(values.get(key) for key in shared)))
    return rows


def _families(space: Space, rows: list[Row]) -> list[Condition]:
    """Every condition but for its limit: each option, and each number from either side, alone and with an option."""
    numbers = [key for key, search in space.searched.items() if is_ordered(search)]
    options = []
    for key in (*space.searched, "method", "setting"):
        there = list(dict.fromkeys(row.values[key] for row in rows if key in row.values))
        options += [{key: option} for option in there if key not in numbers and len(there) > 1]
    limited = [
        Condition(option, key, above)
        for option in ({}, *options)
        for key in numbers
        for above in (True, False)
        if "method" not in option or space.searched[key]["of"] == "train"
    ]
    return [Condition(option) for option in options] + limited


def _with_limit(family: Condition, rows: list[Row]) -> Cause:
    """The condition of a family that fits best."""
    key, bad = family.key, sum(bool(row.end) for row in rows)
    concerned = sorted(
        (row for row in rows if family.concerns(row.values)),
        key=lambda row: row.values[key] if key else 0.0,
        reverse=family.above,
    )
    best, inside, hits = Cause(family, 0, 0, 0.0), 0, 0
    for limit, equal in groupby(concerned, key=lambda row: row.values[key] if key else 0.0):
        same = [bool(row.end) for row in equal]
        inside, hits = inside + len(same), hits + sum(same)
        fit = 2 * hits / (inside + bad)
        if fit > best.fit:
            best = Cause(Condition(family.options, key, family.above, limit), inside, hits, fit)
    return best


def _by_chance(condition: Condition, rows: list[Row]) -> float:
    """How often a condition that knows nothing covers so many of the bad (hypergeometric tail).

    Counted in points, not trials: what fails at one point for every method has failed once.
    """
    points: dict[tuple[Any, ...], tuple[bool, bool]] = {}
    for row in rows:
        key = (row.point, row.values.get(condition.key), *(row.values.get(name) for name in condition.options))
        points[key] = (condition.holds(row.values), bool(row.end) or points.get(key, (False, False))[1])
    bad, inside = sum(b for _, b in points.values()), sum(i for i, _ in points.values())
    hits, good = sum(i and b for i, b in points.values()), len(points) - bad
    ways = sum(math.comb(bad, n) * math.comb(good, inside - n) for n in range(hits, min(bad, inside) + 1))
    return ways / math.comb(len(points), inside)


def _cause(space: Space, rows: list[Row]) -> Cause | None:
    """The simplest of the conditions that fit about as well as the best one does.

    The usual suspect, too high a learning rate, perhaps with one option of training's, need not stand out among many.
    """
    bad = sum(bool(row.end) for row in rows)
    families = _families(space, rows)
    likely = []
    for family in families:
        cause = _with_limit(family, rows)
        usual = family.key == RATE and family.above and not family.options.keys() & {"method", "setting"}
        tried = 1 if usual else len(families)
        most = 2 * cause.hits > cause.inside and 2 * cause.hits > bad
        if most and _by_chance(cause.condition, rows) * tried <= LEVEL:
            likely.append(cause)
    best = max((cause.fit for cause in likely), default=0.0)
    near = [cause for cause in likely if cause.fit >= best - SIMPLER]
    return min(near, key=lambda cause: (cause.condition.parts, -cause.fit), default=None)


def _narrowed(search: Mapping[str, Any], condition: Condition) -> Any:
    """The search up to the limit; None where that leaves nothing, or all."""
    if "options" in search:
        kept = [option for option in search["options"] if not condition.beyond(option)]
        return (kept if len(kept) > 1 else kept[0]) if kept else None
    limit = rounded(condition.limit, search["high"], math.floor if condition.above else math.ceil)
    if not search["low"] < limit < search["high"]:
        return None
    return {**{k: search[k] for k in ("low", "high", "log")}, "high" if condition.above else "low": limit}


def _change(space: Space, condition: Condition, studies: list[StudyResult], wider: Collection[str]) -> str:
    """The line that avoids it: a shorter range, else one option less; '' where that takes away what was chosen.

    What shall grow ``wider`` is not made shorter, nor what some backbone searches in a range of its own.
    """
    wider = {*wider, *(key for own in space.own.values() for key in own)}
    chosen = [study.selection["values"] for study in studies if study.selection]
    key = condition.key
    if key and key not in wider and not any(condition.beyond(values[key]) for values in chosen if key in values):
        value = _narrowed(space.searched[key], condition)
        return space.change(key, value) if value is not None else ""
    for name, option in condition.options.items():
        if name in space.searched and all(values.get(name) != option for values in chosen):
            kept = [other for other in space.searched[name]["options"] if other != option]
            return space.change(name, kept if len(kept) > 1 else kept[0])
    return ""


def causes(space: Space, studies: list[StudyResult], wider: Collection[str] = ()) -> list[Advice]:
    """The common cause of failed trials and of those at chance; of the latter the count where none is found.

    ``wider``: keys whose ranges other advice widens.
    """
    rows = _rows(space, studies)
    bad = [row for row in rows if row.end]
    if len(bad) < LEAST:
        return []
    ends = " or ".join(sorted({row.end for row in bad}))
    where = ", ".join(dict.fromkeys(row.values["method"] for row in bad))
    cause = _cause(space, rows)
    if cause is not None:
        evidence = (
            f"{cause.hits} of {cause.inside} such trials, {len(bad) - cause.hits} of {len(rows) - cause.inside} others"
        )
        change = _change(space, cause.condition, studies, wider)
        return [Advice(f"trials {ends} where {cause.condition}", where, evidence, change)]
    at_chance = sum(row.end == "end at chance" for row in bad)
    if at_chance < LEAST:
        return []
    return [Advice("trials end at chance", where, f"{at_chance} of {len(rows)} trials; no common cause was found")]
