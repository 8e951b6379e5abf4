"""TOML as text: where a key stands, for error messages; a key set in a text that stays as it is; values written."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError
from tomlkit.items import Item

from cotuning_tune.base.errors import UserError


def read_text(path: Path) -> str:
    """The text of a TOML file. Raises UserError where it cannot be read."""
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise UserError(f"{path} is not UTF-8 text: {problem}") from None


def tables_of(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises UserError where it is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as problem:  # no TOML, a number of thousands of digits, nested too deep
        raise UserError(str(problem)) from None


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line (from 1) on which the key ``path`` is set or its table opens; None where it is not found.

    It is the line that follows the longest beginning of the text that can be read and lacks the key.
    """
    lines, start = text.split("\n"), 1
    for end in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("\n".join(lines[:end]))
        except (ValueError, RecursionError):  # within a value of several lines
            continue
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is not None:
            return start
        start = end + 1
    return None


def set_key(text: str, path: Sequence[str], value: Any) -> str:
    """The text with the key ``path`` set: in its place, or at the end of its table, in whatever notation that is.

    All else stays, comments too. Only a text whose tables stand in an order that tomlkit does not read is
    written anew, without comments. Raises UserError where a table is needed and a value stands.
    """
    try:
        document: Any = tomlkit.parse(text if text.endswith("\n") else f"{text}\n")
    except ParseError:
        document = tomlkit.parse(tomlkit.dumps(tomllib.loads(text)))
    table, key = document, ".".join(path)
    while len(path) > 1 and path[0] in table:
        table, path = table[path[0]], path[1:]
        if not isinstance(table, Mapping):
            raise UserError(f"{key} cannot be set: there is a value where its table would stand, {table!r}", key)
    for name in reversed(path[1:]):
        value = {name: value}
    table[path[0]] = inline(value)
    return tomlkit.dumps(document)


def dotted(key: str) -> tuple[str, ...]:
    """The names of a dotted key, each in quotes where it needs them. Raises UserError where it is none."""
    found, names = tables_of(f"{key} = 0"), list[str]()
    while isinstance(found, Mapping):
        if len(found) > 1:
            raise UserError(f"{key!r} is not a key")
        ((name, found),) = found.items()
        names.append(name)
    return tuple(names)


def inline(value: Any) -> Item:
    """A value for tomlkit; mappings become inline tables. Raises TypeError for None and what else TOML lacks."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for key, inner in value.items():
            table[key] = inline(inner)
        return table
    if isinstance(value, (list, tuple)):
        array = tomlkit.array()
        array.extend(map(inline, value))
        return array
    return tomlkit.item(value)


def format_value(value: Any) -> str:
    """A value as TOML, on one line."""
    return inline(value).as_string()
