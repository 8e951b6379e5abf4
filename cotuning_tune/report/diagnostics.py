"""Search-space diagnostics: what the trials say of the ranges that they were drawn from.

It looks at validation accuracies and failures, never at test results.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.base.toml_text import format_value, line_of
from cotuning_tune.report.results import StudyResult, searched_of
from cotuning_tune.run.folder import RunDir

EDGE = 0.05
FLAT_POINTS = 0.5
LEAST_TRIALS = 9
LEAST_FAILURES = 3
RATE = "optim/lr"


@dataclass(frozen=True)
class Advice:
    """A finding, where it was made, the figures that show it, and the change ('' where none helps)."""

    finding: str
    where: str
    evidence: str
    change: str = ""


@dataclass(frozen=True)
class Space:
    """The searched parameters of a run, by key as trials have them, and the experiment file's text.

    ``of`` says whose a parameter is: 'train', or a method.
    """

    searched: dict[str, dict[str, Any]]
    text: str

    def change(self, key: str, value: Any) -> str:
        """The line of the experiment file that gives a key its new search, and where it stands or belongs."""
        owner = self.searched[key]["of"]
        table = ["train"] if owner == "train" else ["methods", owner]
        path = [*table, *(key if owner == "train" else key.removeprefix(f"{owner}/")).split("/")]
        written = f"{path[-1]} = {format_value(value)}"
        line = line_of(self.text, path)
        return f"line {line}: {written}" if line else f"under [{'.'.join(path[:-1])}]: {written}"


def read_space(run: RunDir) -> Space:
    """The ranges and lists of ``space.toml`` (none where it is missing)."""
    searched = {key: {**s, "of": owner} for owner, space in searched_of(run).items() for key, s in space.items()}
    return Space(searched, run.experiment_file.read_text(encoding="utf-8"))


def share_of(search: Mapping[str, Any], value: float) -> float:
    """Where a value lies in its range or among its listed numbers: 0 at the low end, 1 at the high one."""
    if "options" in search:
        ranked = sorted(search["options"])
        return ranked.index(value) / (len(ranked) - 1)
    low, high = search["low"], search["high"]
    if search["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _rounded(value: float, like: Any, towards: Callable[[float], float] = round) -> float | int:
    """Two significant digits, a whole number where ``like`` is one."""
    if value == 0:
        return 0 * like
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(towards(value * 10.0**digits) / 10.0**digits, max(digits, 0))
    return round(rounded) if isinstance(like, int) and not isinstance(like, bool) else float(rounded)


def widened(search: Mapping[str, Any], upwards: bool) -> Any:
    """The search with more room at one end: a decade, half the width, or one more number. Never below zero."""
    if "options" in search:
        ranked = sorted(search["options"])
        ends = (ranked[-1], ranked[-2]) if upwards else (ranked[0], ranked[1])
        step = ends[0] / ends[1] if 0 not in ends else 1.0
        if ends[0] == 0:
            return ranked
        further = _rounded(ends[0] * step if step != 1 else 2 * ends[0], ends[0])
        return [*ranked, further] if upwards else [further, *ranked]
    low, high = search["low"], search["high"]
    if search["log"]:
        low, high = (low, _rounded(high * 10, high)) if upwards else (_rounded(low / 10, low), high)
    else:
        half = (high - low) / 2
        lower = max(0.0, low - half) if low >= 0 else low - half
        low, high = (low, _rounded(high + half, high)) if upwards else (_rounded(lower, low), high)
    return {"low": low, "high": high, "log": search["log"]}


def _edges(space: Space, studies: list[StudyResult]) -> list[Advice]:
    """Chosen values at the end of a range; training's ranges are shared, so all methods count together.

    A method's weight at its low end is not widened there: the method does best doing little, see ``_flat``.
    """
    found: dict[tuple[str, bool], list[StudyResult]] = {}
    chosen: dict[str, int] = {}
    for study in (c for c in studies if c.selection):
        assert study.selection is not None
        for key, value in study.selection["values"].items():
            chosen[key] = chosen.get(key, 0) + 1
            if key in study.selection["at_edge"] and key in space.searched:
                found.setdefault((key, share_of(space.searched[key], value) > 0.5), []).append(study)
    advice = []
    for (key, upwards), at in found.items():
        search = space.searched[key]
        wider = widened(search, upwards)
        if not upwards and (search["of"] != "train" or 0 in (search.get("low"), *search.get("options", ()))):
            continue
        where = ", ".join(dict.fromkeys(c.method for c in at))
        evidence = f"{len(at)} of {chosen[key]} chosen values at the {'high' if upwards else 'low'} end"
        advice.append(Advice(f"{key} at an edge", where, evidence, space.change(key, wider)))
    return advice


def _thirds(search: Mapping[str, Any], key: str, study: StudyResult) -> list[float] | None:
    """The best accuracy with the key in the low, middle and high third of its range; None where one is empty."""
    parts: list[list[float]] = [[], [], []]
    for trial in (t for t in study.complete if key in t["values"]):
        share = share_of(search, min(max(trial["values"][key], search["low"]), search["high"]))
        parts[min(2, int(3 * share))].append(trial["value"])
    if sum(map(len, parts)) < LEAST_TRIALS or not all(parts):
        return None
    return [max(part) for part in parts]


def _flat(space: Space, studies: list[StudyResult]) -> list[Advice]:
    """Weights on which the best accuracies hardly depend, or that are best near their neutral value."""
    advice = []
    for key, search in space.searched.items():
        if search["of"] == "train" or "low" not in search:
            continue
        mine = [c for c in studies if c.method == search["of"]]
        found = [thirds for study in mine if (thirds := _thirds(search, key, study))]
        means = [fmean(column) for column in zip(*found, strict=True)]
        where = f"{len(found)} of {len(mine)} studies"
        shown = f"best accuracy in the low, middle, high third: {', '.join(f'{m:.2f}' for m in means)}"
        if means and max(means) - min(means) < FLAT_POINTS:
            change = space.change(key, widened(search, True))
            advice.append(Advice(f"{key} is flat: the method acts as fine-tuning", where, shown, change))
        at_low = [c for c in mine if c.selection and share_of(search, c.selection["values"].get(key, math.inf)) <= EDGE]
        if mine and 2 * len(at_low) > len(mine):
            evidence = f"chosen at its low end in {len(at_low)} of {len(mine)} studies"
            low = search["low"] and space.change(key, widened(search, False))
            advice.append(Advice(f"{key} is best near its neutral value", search["of"], evidence, low or ""))
    return advice


def _diverging(space: Space, studies: list[StudyResult]) -> list[Advice]:
    """A learning rate above which most trials fail, whatever the method; trials of all studies together."""
    search = space.searched.get(RATE)
    rows = [(t["values"][RATE], t["state"] == "FAIL") for c in studies for t in c.trials if RATE in t["values"]]
    failed = sorted(rate for rate, fails in rows if fails)
    if search is None or "low" not in search or len(failed) < LEAST_FAILURES:
        return []
    for limit in failed:
        above = [fails for rate, fails in rows if rate >= limit]
        if 2 * sum(above) > len(above):
            break
    else:
        return []
    chosen = [c.selection["values"].get(RATE, 0.0) for c in studies if c.selection]
    inside = sum(above)
    if inside < LEAST_FAILURES or 2 * inside < len(failed):
        return []
    evidence = f"{inside} of {len(above)} trials with {RATE} of at least {limit:.2g} failed"
    high = _rounded(
        max([limit, *chosen]), search["high"], math.ceil if max(chosen, default=0.0) > limit else math.floor
    )
    change = space.change(RATE, {"low": search["low"], "high": high, "log": search["log"]})
    useful = search["low"] < high < search["high"]
    where = ", ".join(dict.fromkeys(c.method for c in studies if c.count("FAIL")))
    return [Advice("high learning rates diverge", where, evidence, change if useful else "")]


def examine(space: Space, studies: list[StudyResult]) -> list[Advice]:
    """All that the search says of its space."""
    return [a for look in (_edges, _flat, _diverging) for a in look(space, studies)]


def diagnostics_table(advice: list[Advice]) -> Table | None:
    """The findings with their changes; None of none."""
    if not advice:
        return None
    rows = [[a.finding, a.where, a.evidence, a.change or "nothing to change"] for a in advice]
    note = (
        "Lines of experiment.toml; a changed space is a new run: --name NEW, with --from RUN its sampler knows the old"
        " trials. A range of [train] changes for every method alike. Whoever changes a space after seeing test results"
        " has chosen by them: say so."
    )
    return Table("diagnostics", "Search-space diagnostics", ["finding", "where", "figures", "change"], rows, note)


def diagnostics_remarks(advice: list[Advice]) -> list[str]:
    """A line for each finding."""
    return [f"{a.finding} ({a.evidence}){f'; {a.change}' if a.change else ''}." for a in advice]
