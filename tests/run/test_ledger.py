"""The test ledger: a chain in which no line can be changed, taken out or put in unseen."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.runs import ledger


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A ledger of three lines."""
    path = tmp_path / "ledger.jsonl"
    for seed in range(3):
        ledger.append(path, {"event": "test_evaluation", "seed": seed})
    return path


def test_empty(tmp_path: Path) -> None:
    """A ledger that is not there has no entries and no broken line."""
    assert ledger.read(tmp_path / "none") == []
    assert ledger.broken_lines(tmp_path / "none") == []


def test_entries_in_order(book: Path) -> None:
    """Entries are read in the order of writing, with the time of their writing."""
    entries = ledger.read(book)
    assert [entry["seed"] for entry in entries] == [0, 1, 2]
    assert all(0 <= time.time() - entry["time"] < 60 for entry in entries)


def test_the_chain(book: Path) -> None:
    """Each line holds the hash of the line before, the first one zeros."""
    lines = book.read_text().splitlines()
    before = [json.loads(line)["previous"] for line in lines]
    assert before == ["0" * 64, *map(ledger.line_hash, lines[:-1])]
    assert ledger.broken_lines(book) == []


def test_an_entry_cannot_set_its_place(book: Path) -> None:
    """Time and chain are the ledger's own: an entry that brings them is overruled."""
    ledger.append(book, {"previous": "0" * 64, "time": 0})
    assert ledger.broken_lines(book) == []
    assert ledger.read(book)[-1]["time"] > 0


@pytest.mark.parametrize(
    ("edit", "broken"),
    [
        (lambda lines: [lines[0].replace('"seed": 0', '"seed": 9'), *lines[1:]], [2]),
        (lambda lines: lines[1:], [1]),
        (lambda lines: [lines[0], lines[2]], [2]),
        (lambda lines: [lines[1], lines[0], lines[2]], [1, 2, 3]),
        (lambda lines: [lines[0], lines[0], *lines[1:]], [2]),
        (lambda lines: [*lines[:2], "[]"], [3]),
    ],
    ids=["changed", "first taken out", "middle taken out", "exchanged", "doubled", "no entry"],
)
def test_edits_show(book: Path, edit: Callable[[list[str]], list[str]], broken: list[int]) -> None:
    """A line changed, taken out, moved or put in breaks the chain at the line that follows."""
    lines = edit(book.read_text().splitlines())
    book.write_text("".join(line + "\n" for line in lines))
    assert ledger.broken_lines(book) == broken


def test_a_torn_line_stays_and_the_chain_goes_on(book: Path) -> None:
    """After half a last line, left by a kill, the next entry stands on a line of its own."""
    whole = book.read_text()
    book.write_text(whole[:-20])
    ledger.append(book, {"event": "test_evaluation", "seed": 3})
    assert [entry.get("seed") for entry in ledger.read(book)] == [0, 1, None, 3]
    assert ledger.broken_lines(book) == [3]


def test_a_missing_line_end_is_completed(book: Path) -> None:
    """A last line that lacks only its line end is whole: nothing is broken."""
    book.write_text(book.read_text()[:-1])
    ledger.append(book, {"seed": 3})
    assert [entry["seed"] for entry in ledger.read(book)] == [0, 1, 2, 3]
    assert ledger.broken_lines(book) == []


def test_separators_inside_texts(book: Path) -> None:
    """Line separators inside an entry's text do not cut its line."""
    ledger.append(book, {"reason": "a\u2028b\x85c\nd"})
    assert ledger.read(book)[-1]["reason"] == "a\u2028b\x85c\nd"
    assert ledger.broken_lines(book) == []


@pytest.mark.parametrize("number", [1, 3])
def test_a_changed_line_is_named_itself(book: Path, number: int) -> None:
    """A line that was changed does not have its own hash, the last one neither."""
    assert ledger.altered_lines(book) == []
    lines = book.read_text().splitlines()
    lines[number - 1] = lines[number - 1].replace('"event": "test_evaluation"', '"event": "opened"')
    book.write_text("\n".join(lines) + "\n")
    assert ledger.altered_lines(book) == [number]


def test_hashes_do_not_depend_on_the_order_of_keys() -> None:
    """Equal content has equal hashes; a configuration's leaves out how images are decoded."""
    assert ledger.content_hash({"a": 1, "b": 2.5}) == ledger.content_hash({"b": 2.5, "a": 1})
    spec = {"seed": 0, "task_config": {"size": 16}}
    assert ledger.config_hash(spec) == ledger.config_hash({"task_config": {"decode": "each", "size": 16}, "seed": 0})
    assert ledger.config_hash(spec) != ledger.config_hash({**spec, "seed": 1})
