"""Tables with a row for each image: CSV, TSV, JSON Lines and Parquet, every value as text.

A table is read row by row. Mistakes are UserErrors that name the file and the line, of Parquet the row.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import leaves
from cotuning_tune.data.images._lists import NO_COLUMN, SPLIT_OF, Row

GUESSES = {
    "path": ("path", "file", "image", "filename", "filepath", "image_path", "file_name"),
    "label": ("label", "class", "class_name", "category", "labels"),
    "split": ("split", "part", "set", "subset"),
    "group": ("group", "group_id", "patient", "patient_id", "subject_id"),
}
PARQUET, LINES = (".parquet", ".pq"), (".jsonl", ".ndjson")
Choose = Callable[[list[str]], list[int | None]]
Rows = Iterator[tuple[int, list[str]]]


def arrow(file: Path) -> ModuleType:
    """The package pyarrow. Raises UserError where it is not installed."""
    try:
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{file} needs one more package to be read: pip install pyarrow") from None
    return pyarrow


class ImageTable:
    """A table of images: which columns hold path, label and split, and its rows, each path once.

    ``columns``: names of columns that the user gave, '' where they are guessed. ``roots``: the folder that paths start
    at and stay in, and other spellings of it. ``before``: a folder that paths are relative to, below the root. A column
    of ``optional`` may be missing: its values are '', and ``has_label`` or ``has_split`` says so. ``group``: the
    column of the groups, '' where there is none.
    """

    def __init__(
        self,
        file: Path,
        roots: Sequence[Path],
        columns: Mapping[str, str],
        *,
        before: str = "",
        optional: Sequence[str] = ("split", "group"),
    ) -> None:
        self.file, self.roots, self.columns, self.before, self.optional = file, roots, columns, before, optional
        ending = file.suffix.lower()
        self.place_word = "row" if ending in PARQUET else "line"
        self._open = _parquet if ending in PARQUET else _json_lines if ending in LINES else _csv
        self.has_split = self.has_label = False
        self.group = ""

    def rows(self) -> list[Row]:
        """Path below the root, label, split and group of each row."""
        try:
            return list(self._checked(self._open(self.file, self._choose)))
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            raise UserError(f"{self.file} cannot be read: {first_line(problem)}") from None

    def _checked(self, rows: Rows) -> Iterator[Row]:
        seen: dict[str, int] = {}
        for number, (path, label, split, group) in rows:
            if not path or (self.has_label and not label):
                raise self._wrong(number, "no path or no label")
            path = self._inside(path, number)
            if path in seen:
                raise self._wrong(number, f"{path} stands in {self.place_word} {seen[path]} already")
            seen[path] = number
            if self.has_split and split.lower() not in SPLIT_OF:
                raise self._wrong(number, f"no split '{split}'; there are {', '.join(SPLIT_OF)}")
            yield Row(path, label, SPLIT_OF.get(split.lower(), ""), group)

    def _inside(self, path: str, number: int) -> str:
        """The path below the root. Raises UserError where it leads out of it."""
        for root in self.roots:
            if PurePath(path).is_relative_to(root):
                path = str(PurePath(path).relative_to(root))
        path = os.path.join(self.before, path)  # noqa: PTH118 - a name, not a path of this machine
        if leaves(path):
            raise self._wrong(
                number, f"{path!r} leads out of {self.roots[0]}: set root to the folder that holds all images"
            )
        return os.path.normpath(path)

    def _choose(self, header: list[str]) -> list[int | None]:
        found = [self._place(header, column) for column in GUESSES]
        self.has_label, self.has_split = found[1] is not None, found[2] is not None
        self.group = "" if found[3] is None else header[found[3]]
        return found

    def _place(self, header: list[str], column: str) -> int | None:
        """Where a column stands; None where there is none and it is optional."""
        given = self.columns.get(column, "")
        if column == "group" and given == NO_COLUMN:
            return None
        for name in [given] if given else GUESSES[column]:
            matching = [place for place, found in enumerate(header) if found == name or found.lower() == name]
            if matching:
                return matching[0]
        if column in self.optional and not given:
            return None
        wanted = given or " or ".join(GUESSES[column][:3])
        first = "there are" if self._open is _parquet else f"its first {'row' if self._open is _csv else 'line'} names"
        raise UserError(f"{self.file} has no column {wanted}: {first} {', '.join(header) or 'none'}")

    def _wrong(self, number: int, what: str) -> UserError:
        return UserError(f"{self.file} {self.place_word} {number}: {what}")


def _csv(path: Path, choose: Choose) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max("\t;,", key=head.count), strict=True)
        header = [name.strip() for name in next(reader, [])]
        places = choose(header)
        for cells in filter(any, reader):
            if len(cells) != len(header):
                raise UserError(
                    f"{path} line {reader.line_num}: {len(cells)} cells under {len(header)} columns;"
                    " quote what has commas"
                )
            yield reader.line_num, [cells[p].strip() if p is not None else "" for p in places]


def _json_lines(path: Path, choose: Choose) -> Rows:
    with path.open(encoding="utf-8-sig") as file:
        names: list[str | None] = []
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = _object(path, number, line)
            if not names:
                header = [*row]
                names = [None if place is None else header[place] for place in choose(header)]
            yield number, [_text(f"{path} line {number}", name, row.get(name)) if name else "" for name in names]
        if not names:
            choose([])


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise UserError(f"{path} line {number}: no JSON ({first_line(problem)})") from None
    if not isinstance(row, dict):
        raise UserError(f'{path} line {number}: an object is needed, as {{"file_name": "a.jpg", "label": "x"}}')
    return row


def _parquet(path: Path, choose: Choose) -> Rows:
    package = arrow(path)
    try:
        with package.parquet.ParquetFile(path) as file:
            header = list(file.schema_arrow.names)
            names = [None if place is None else header[place] for place in choose(header)]
            number = 0
            for batch in file.iter_batches(columns=[name for name in names if name is not None]):
                columns = [None if name is None else batch.column(name).to_pylist() for name in names]
                for place in range(batch.num_rows):
                    number += 1
                    values = [None if column is None else column[place] for column in columns]
                    at = f"{path} row {number}"
                    yield number, [_text(at, name or "", v) for name, v in zip(names, values, strict=True)]
    except (package.ArrowException, OSError) as problem:
        raise UserError(f"{path} cannot be read: {first_line(problem)}") from None


def _text(at: str, column: str, value: Any) -> str:
    """A value as text: 1 as '1', nothing as ''. Raises UserError for what is none, as a list."""
    if value is None:
        return ""
    if isinstance(value, (dict, bytes)):
        raise UserError(f"{at}: {column} holds images, not their paths: the data set hf_dataset reads such files")
    if isinstance(value, list):
        raise UserError(f"{at}: {column} is a list of {len(value)}; one value is needed")
    return str(value).strip()
