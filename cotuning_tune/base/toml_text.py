"""TOML as text: where a key stands, for error messages; and writing plain tables (tomllib only reads)."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line (from 1) on which the key ``path`` is set or its table opens; None where it is not found.

    Understands ``[a.b]`` headers, dotted keys and inline tables of one line: enough to point at a key.
    """
    table: list[str] = []
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if header := re.match(r"\[([^\[\]]+)\]", stripped):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here = table
        elif pair := re.match(r"([A-Za-z0-9_.\-\"' ]+?)\s*=(.*)", stripped):
            here = table + [part.strip().strip("\"'") for part in pair[1].split(".")]
            rest = path[len(here) :]
            if rest and list(path[: len(here)]) == here and re.search(rf"\b{re.escape(rest[0])}\s*=", pair[2]):
                here = [*here, rest[0]]
        else:
            continue
        common = len(here) if list(path[: len(here)]) == here else 0
        if common and (best is None or common > best[0]):
            best = (common, number)
    return best[1] if best and best[0] == len(path) else None


def set_key(text: str, table: str, key: str, value: Any) -> str:
    """The text with ``key = value`` in ``[table]``, which it must have: in the key's place, or first."""
    lines, pair = text.splitlines(), f"{_key(key)} = {format_value(value)}"
    if line := line_of(text, [table, key]):
        lines[line - 1] = pair
    elif line := line_of(text, [table]):
        lines.insert(line, pair)
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else format_value(name)


def format_value(value: Any) -> str:
    """A value as TOML; mappings become inline tables. Raises TypeError for None and other types."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {format_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(format_value, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no TOML form")


def format_tables(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """``[table]`` after ``[table]`` with their keys; table names are written as they are (dotted)."""
    parts = []
    for name, table in tables.items():
        lines = [f"{_key(key)} = {format_value(value)}" for key, value in table.items()]
        parts.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(parts) + "\n"
