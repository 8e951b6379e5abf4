"""What a search-space diagnostic says, and the line of the experiment file that would change the space."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cotuning_tune.base.toml_text import format_value, line_of
from cotuning_tune.report.results import StudyResult, searched_of, space_tables
from cotuning_tune.runs.folder import RunDir

# Where parameters stand that are no part of [train] or [methods].
PLACES = {"backbone": ["experiment", "backbone"], "task/size": ["task", "size"]}


@dataclass(frozen=True)
class Advice:
    """A finding, where it was made, the figures that show it, and the change ('' where none helps).

    ``wider``: the key whose range the change widens.
    """

    finding: str
    where: str
    evidence: str
    change: str = ""
    wider: str = ""


@dataclass(frozen=True)
class Space:
    """The searched parameters of a run, by key as trials have them, and the experiment file's text.

    ``of`` says whose a parameter is: 'train' (every study's), or a method. ``own``: by backbone, the training's
    parameters whose search is its own.
    """

    searched: dict[str, dict[str, Any]]
    text: str
    own: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def of(self, study: StudyResult) -> dict[str, dict[str, Any]]:
        """What a study searches: the parameters of every study and its method's, by its backbone's ranges."""
        shared = {key: search for key, search in self.searched.items() if search["of"] in ("train", study.method)}
        return shared | self.own.get(study.backbone, {})

    def owner(self, key: str, study: StudyResult) -> str:
        """The study's backbone where the search of a parameter is its own, else ''."""
        return study.backbone if key in self.own.get(study.backbone, {}) else ""

    def change(self, key: str, value: Any, backbone: str = "") -> str:
        """The line of the experiment file that gives a key its new search, and where it stands or belongs."""
        owner = "train" if backbone else self.searched[key]["of"]
        table = [
            *(["backbones", backbone] if backbone else []),
            *(["train"] if owner == "train" else ["methods", owner]),
        ]
        path = [*table, *(key if owner == "train" else key.removeprefix(f"{owner}/")).split("/")]
        path = PLACES.get(key, path)
        written = f"{path[-1]} = {format_value(value)}"
        line = line_of(self.text, path)
        return f"line {line}: {written}" if line else f"under [{'.'.join(path[:-1])}]: {written}"


def read_space(run: RunDir) -> Space:
    """The ranges and lists of ``space.toml`` (none where it is missing)."""
    owners = {owner: "train" if owner == "placed" else owner for owner in searched_of(run)}
    found = {owner: searched_of(run)[owner] for owner in owners}
    searched = {key: {**s, "of": owners[owner]} for owner, space in found.items() for key, s in space.items()}
    own = {
        name: {key: {**s, "of": "train"} for key, s in table["train"].items() if isinstance(s, dict)}
        for name, table in space_tables(run).get("backbones", {}).items()
    }
    return Space(searched, run.experiment_file.read_text(encoding="utf-8"), own)


def is_ordered(search: Mapping[str, Any]) -> bool:
    """Whether it is a range, or a list of at least three numbers."""
    options = search.get("options", ())
    numbers = all(isinstance(option, (int, float)) and not isinstance(option, bool) for option in options)
    return "low" in search or (numbers and len(options) > 2)


def share_of(search: Mapping[str, Any], value: float) -> float:
    """Where a value lies in its range or among its listed numbers: 0 at the low end or below, 1 at the high one."""
    if "options" in search:
        ranked = sorted(search["options"])
        return ranked.index(value) / (len(ranked) - 1)
    low, high = search["low"], search["high"]
    value = min(max(value, low), high)
    if search["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def rounded(value: float, like: Any, towards: Callable[[float], float] = round) -> float | int:
    """Two significant digits, a whole number where ``like`` is one."""
    if value == 0:
        return 0 * like
    digits = 1 - math.floor(math.log10(abs(value)))
    near = round(towards(value * 10.0**digits) / 10.0**digits, max(digits, 0))
    return round(near) if isinstance(like, int) and not isinstance(like, bool) else float(near)


def widened(search: Mapping[str, Any], upwards: bool) -> Any:
    """The search with more room at one end: a decade, half the width, or one more number. Never below zero."""
    if "options" in search:
        ranked = sorted(search["options"])
        ends = (ranked[-1], ranked[-2]) if upwards else (ranked[0], ranked[1])
        step = ends[0] / ends[1] if 0 not in ends else 1.0
        if ends[0] == 0:
            return ranked
        further = rounded(ends[0] * step if step != 1 else 2 * ends[0], ends[0])
        return [*ranked, further] if upwards else [further, *ranked]
    low, high = search["low"], search["high"]
    if search["log"]:
        low, high = (low, rounded(high * 10, high)) if upwards else (rounded(low / 10, low), high)
    else:
        half = (high - low) / 2
        lower = max(0.0, low - half) if low >= 0 else low - half
        low, high = (low, rounded(high + half, high)) if upwards else (rounded(lower, low), high)
    return {"low": low, "high": high, "log": search["log"]}
