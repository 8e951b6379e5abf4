"""One and the same TOML tables, written in every notation: headers, dotted keys, inline tables, arrays of tables."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from cotuning_tune.base.toml_text import format_value

Draw = Callable[[st.SearchStrategy[Any]], Any]
NAMES = st.sampled_from(["a", "b", "c.d", "e f", "experiment", ""])
SCALARS = st.integers(-9, 9) | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    tables = st.dictionaries(NAMES, inner, max_size=3)
    return tables | st.lists(SCALARS, max_size=2) | st.lists(tables, max_size=2)


VALUES = st.recursive(SCALARS, _nested, max_leaves=10)


@dataclass(frozen=True)
class Notation:
    """Tables, and a text that holds them."""

    tables: dict[str, Any]
    text: str


def _name(draw: Draw, path: list[str]) -> str:
    forms = [[json.dumps(n), f"'{n}'", *([n] if re.fullmatch(r"[A-Za-z0-9_-]+", n) else [])] for n in path]
    return draw(st.sampled_from([".", " . "])).join(draw(st.sampled_from(form)) for form in forms)


def _pairs(draw: Draw, path: list[str], value: Any) -> list[str]:
    """The lines of a key of the open table: one, or a dotted key for each inner key."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        return [line for key, inner in value.items() for line in _pairs(draw, [*path, key], inner)]
    return [f"{_name(draw, path)} = {format_value(value)}{draw(st.sampled_from(['', '  # a = 1']))}"]


def _sections(draw: Draw, path: list[str], table: dict[str, Any], header: str) -> list[list[str]]:
    """The table's own section, then those below it, which may stand in any order."""
    lines: list[str] = []
    below: list[list[str]] = []
    for key, value in table.items():
        inner = [*path, key]
        tables = isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
        if isinstance(value, dict) and draw(st.booleans()):
            below += _sections(draw, inner, value, "[{}]")
        elif tables and draw(st.booleans()):
            below.append([line for v in value for line in _sections(draw, inner, v, "[[{}]]")[0]])
        else:
            lines += _pairs(draw, [key], value)
    if header == "[{}]" and below and not lines and draw(st.booleans()):
        return below
    title = [header.format(_name(draw, path))] if path else []
    own = [*title, *draw(st.permutations(lines)), *draw(st.sampled_from([[], [""], ["# note", ""]]))]
    return [[*own, *chain(*below)]] if header == "[[{}]]" else [own, *below]


@st.composite
def notations(draw: Draw) -> Notation:
    """Small tables in some notation."""
    tables = draw(st.dictionaries(NAMES, VALUES, max_size=4))
    first, *below = _sections(draw, [], tables, "")
    lines = [*first, *chain(*draw(st.permutations(below)))]
    return Notation(tables, "\n".join(lines) + draw(st.sampled_from(["", "\n"])))
