"""The test ledger: every test evaluation and its result, each line chained to the one before."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from cotuning_tune.base.files import append_line
from cotuning_tune.runs.records import Values

START = "0" * 64


class Head(TypedDict):
    """How far a ledger goes: the number of its lines, and the hash of the last one."""

    lines: int
    hash: str


def line_hash(line: str) -> str:
    """SHA-256 of a ledger line without its line end."""
    return hashlib.sha256(line.encode()).hexdigest()


def config_hash(spec: Values) -> str:
    """The first 16 digits of the SHA-256 of a training's spec, without what its results do not depend on."""
    task_config = dict(cast(Values, spec["task_config"]))
    task_config.pop("decode", None)
    text = json.dumps({**spec, "task_config": task_config}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_hash(content: Mapping[str, object]) -> str:
    """SHA-256 of the content of a JSON file, as ``result.json`` of a retraining."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def append(path: Path, entry: Mapping[str, object]) -> Head:
    """Add a line durably; ``time``, ``previous`` (the hash of the line before) and its own ``hash`` are filled in.

    A half-written last line, left by a kill, is completed to a line of its own and stays in the chain. Returns how
    far the ledger goes now.
    """
    lines = _lines(path)
    previous = line_hash(lines[-1]) if lines else START
    line = chained_line({**entry, "time": time.time(), "previous": previous})
    append_line(path, line)
    return {"lines": len(lines) + 1, "hash": line_hash(line)}


def is_cut(path: Path, head: Head) -> bool:
    """Whether the ledger lacks lines that it had, or has others, up to where it went when ``head`` was kept."""
    lines = _lines(path)
    return len(lines) < head["lines"] or line_hash(lines[head["lines"] - 1]) != head["hash"]


def chained_line(entry: Mapping[str, object]) -> str:
    """The line of an entry that has its place in the chain, with the hash of all the rest."""
    rest = {key: value for key, value in entry.items() if key != "hash"}
    return json.dumps({**rest, "hash": content_hash(rest)}, sort_keys=True)


def read(path: Path) -> list[dict[str, object]]:
    """The entries of a ledger; a damaged line counts as an empty entry."""
    entries = []
    for line in _lines(path):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            entries.append({})
    return entries


def broken_lines(path: Path) -> list[int]:
    """Numbers (from 1) of the lines whose chain to the line before does not hold."""
    broken, previous = [], START
    for number, line in enumerate(_lines(path), 1):
        try:
            holds = json.loads(line).get("previous") == previous
        except (json.JSONDecodeError, AttributeError):
            holds = False
        if not holds:
            broken.append(number)
        previous = line_hash(line)
    return broken


def altered_lines(path: Path) -> list[int]:
    """Numbers (from 1) of the lines that do not have their own hash: changed, or torn by a kill."""
    return [
        number
        for number, (line, entry) in enumerate(zip(_lines(path), read(path), strict=True), 1)
        if not isinstance(entry, dict) or chained_line(entry) != line
    ]
