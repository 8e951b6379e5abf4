"""TOML as text: where a key stands, for error messages; a key set in a text that stays as it is; values written."""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError
from tomlkit.items import Item

from cotuning_tune.base.errors import UserError

MOST_BYTES = 1 << 20  # of a text
MOST_NAMES = 32  # of a dotted key: a hundred thousand take tomllib minutes
MOST_KEY = 4096  # characters of a key
MOST_DEPTH = 32  # of arrays and tables in each other
TOKENS = re.compile(
    r"""
      (?P<name> [A-Za-z0-9_-]++
        | \"{3} (?: [^\"\\]++ | \\. | \"(?!\"\") )*+ (?: \"{3,5} | \\?\Z )
        | '{3} (?: [^']++ | '(?!'') )*+ (?: '{3,5} | \Z )
        | \" (?: [^\"\\\n]++ | \\[^\n] )*+ \"?
        | ' [^'\n]*+ '? )
    | (?P<comment> \#[^\n]*+ )
    | (?P<mark> [\[\]{}=.\n] )
    """,
    re.VERBOSE | re.DOTALL,
)


def read_text(path: Path) -> str:
    """The text of a TOML file. Raises UserError where it cannot be read, or is over ``MOST_BYTES``."""
    try:
        with path.expanduser().open("rb") as file:
            found = file.read(MOST_BYTES + 1)
        if len(found) > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MiB, which no experiment and no profile needs")
        return found.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise UserError(f"{path} is not UTF-8 text: {problem}") from None


def check_bounds(text: str) -> None:
    """Raises UserError for what a parser would spend minutes on: a long text, long keys, many brackets in each other.

    One pass that knows strings and comments. Up to the first mistake in the text it sees what the parser sees.
    """
    if len(text) > MOST_BYTES:
        raise UserError(f"the text is longer than {MOST_BYTES >> 20} MiB, which no experiment and no profile needs")
    names = depth = begin = end = 0
    dot = in_value = False
    for token in TOKENS.finditer(text):
        mark = token.group() if token.lastgroup == "mark" else ""
        if token.lastgroup == "name":
            names, begin, end = (names + 1, begin, token.end()) if dot else (1, *token.span())
            if names > MOST_NAMES:
                raise _too_much(text, begin, f"a key of more than {MOST_NAMES} names")
        elif mark in ("=", "]") and names and end - begin > MOST_KEY and (mark == "=" or not in_value):
            raise _too_much(text, begin, f"a key of more than {MOST_KEY} characters")
        depth += (mark in ("[", "{")) - (mark in ("]", "}"))
        if depth > MOST_DEPTH:
            raise _too_much(text, token.start(), f"more than {MOST_DEPTH} arrays or tables in each other")
        dot = mark == "."
        names = names if dot or not mark else 0
        in_value = mark == "=" or (in_value and (mark != "\n" or depth > 0))


def _too_much(text: str, at: int, what: str) -> UserError:
    return UserError(f"{what} (at line {text.count(chr(10), 0, at) + 1})")


def tables_of(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises UserError where it is none, or beyond the bounds."""
    check_bounds(text)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as problem:  # no TOML, a number of thousands of digits, nested too deep
        raise UserError(str(problem)) from None


def _ends(text: str) -> list[int]:
    """The numbers of the lines (from 1) at whose end no value is open: up to there the text can be read alone."""
    ends, depth, line, seen = list[int](), 0, 1, 0
    for token in TOKENS.finditer(text):
        mark = token.group() if token.lastgroup == "mark" else ""
        depth += (mark in ("[", "{")) - (mark in ("]", "}"))
        if mark == "\n" and not depth:
            ends.append(line + text.count("\n", seen, token.start()))
        line, seen = line + text.count("\n", seen, token.end()), token.end()
    return [*ends, line]


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line (from 1) on which the key ``path`` is set or its table opens; None where it is not found.

    It is the line that follows the longest beginning of the text that can be read and lacks the key.
    """
    lines, ends = text.split("\n"), _ends(text)

    def has(end: int) -> bool:
        try:
            found: Any = tomllib.loads("\n".join(lines[:end]))
        except (ValueError, RecursionError):
            return False
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found is not None

    first = bisect_left(ends, True, key=has)
    if first == len(ends):
        return None
    return ends[first - 1] + 1 if first else 1


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
