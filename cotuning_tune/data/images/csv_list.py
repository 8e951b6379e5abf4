"""Your own list: a CSV or TSV file with a row an image: its path, its label and, where you have it, its split."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import leaves
from cotuning_tune.data._files import FileDataSet, Files
from cotuning_tune.data._task import Listing
from cotuning_tune.data.images._lists import own_split, refuse_missing
from cotuning_tune.hyper import hyper

GUESSES = {
    "path": ("path", "file", "image", "filename", "filepath", "image_path"),
    "label": ("label", "class", "class_name", "category"),
    "split": ("split", "part", "set", "subset"),
}
WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
MOST_DIGITS = 1000  # of a label that is a number
Row = tuple[str, str, str]


class CsvList(FileDataSet):
    """Images named in a table; without a column of splits a fixed share of each class is the test split.

    The first row names the columns; paths start at ``root``, the table's folder by default, and stay in it.
    Raises UserError with the line.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        file: str = hyper("", path=True, doc="the CSV or TSV file; needed")
        root: str = hyper("", path=True, doc="folder that the paths start at and stay in; default: the table's")
        path: str = hyper("", doc="column of the paths; default: path, file, image, ...")
        label: str = hyper("", doc="column of the labels; default: label, class, ...")
        split: str = hyper("", doc="column of train, val, test; default: split, part, ... where there is one")
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there is no such column")
        split_seed: int = hyper(0, doc="of the test share")

    layout = """
    a file as: path,label,split / pictures/one.jpg,robin,train / ... with the split column or without
    """

    def __init__(self, config: Any, stored_size: int) -> None:
        super().__init__(config, stored_size)
        if not config.file:
            raise UserError("a list of images needs its path: set file in its [data.NAME] table")
        self.file = Path(config.file).expanduser().resolve()
        self.root = Path(config.root).expanduser().resolve() if config.root else self.file.parent
        self._splits = self._by_split(self._read_rows())

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names

    def files(self, split: str) -> Files | None:
        return self._splits.get(split)

    def _read(self, found: Files) -> Listing:
        return super()._read(refuse_missing(found))

    def _read_rows(self) -> list[Row]:
        try:
            with self.file.open(encoding="utf-8-sig", newline="") as file:
                return list(self._rows(file))
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            raise UserError(f"{self.file} cannot be read: {first_line(problem)}") from None

    def _rows(self, file: Any) -> Iterator[Row]:
        """Path, label and split of each row, each path once."""
        head = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max("\t;,", key=head.count), strict=True)
        header = [name.strip() for name in next(reader, [])]
        places = [self._place(header, column) for column in GUESSES]
        lines: dict[str, int] = {}
        for cells in filter(any, reader):
            if len(cells) != len(header):
                raise self._wrong(
                    reader.line_num, f"{len(cells)} cells under {len(header)} columns; quote what has commas"
                )
            path, label, split = (cells[p].strip() if p is not None else "" for p in places)
            if not path or not label:
                raise self._wrong(reader.line_num, "no path or no label")
            path = self._inside(path, reader.line_num)
            if path in lines:
                raise self._wrong(reader.line_num, f"{path} stands in line {lines[path]} already")
            lines[path] = reader.line_num
            if places[2] is not None and split.lower() not in SPLIT_OF:
                raise self._wrong(reader.line_num, f"no split '{split}'; there are {', '.join(SPLIT_OF)}")
            yield path, label, SPLIT_OF.get(split.lower(), "")

    def _inside(self, path: str, line: int) -> str:
        """The path below the root. Raises UserError where it leads out of it."""
        given = Path(self.config.root or Path(self.config.file).parent).expanduser().absolute()
        for root in (self.root, given):
            if PurePath(path).is_relative_to(root):
                path = str(PurePath(path).relative_to(root))
        if leaves(path):
            raise self._wrong(line, f"{path!r} leads out of {self.root}: set root to the folder that holds all images")
        return os.path.normpath(path)

    def _place(self, header: list[str], column: str) -> int | None:
        """Where a column stands; None where there is no column of splits."""
        given = getattr(self.config, column)
        for name in [given] if given else GUESSES[column]:
            matching = [place for place, found in enumerate(header) if found == name or found.lower() == name]
            if matching:
                return matching[0]
        if column == "split" and not given:
            return None
        wanted = given or " or ".join(GUESSES[column][:3])
        raise UserError(f"{self.file} has no column {wanted}: its first row names {', '.join(header) or 'none'}")

    def _by_split(self, rows: list[Row]) -> dict[str, Files]:
        names = {label for _, label, _ in rows}
        numbers = all(
            name.isdecimal() and len(name) < MOST_DIGITS for name in names
        )  # 1 and 01 are two labels, in an order of their own
        self._class_names = tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))
        if len(names) < 2:
            raise UserError(f"{self.file} has {len(names)} class(es); two or more are needed")
        labels = {name: label for label, name in enumerate(self._class_names)}
        found = Files(self.root, [path for path, _, _ in rows], [labels[label] for _, label, _ in rows])
        if not any(split for *_, split in rows):
            return own_split(found, self.config.test_fraction, self.config.split_seed)
        places: dict[str, list[int]] = {}
        for place, (*_, split) in enumerate(rows):
            places.setdefault(split, []).append(place)
        if lacking := [split for split in ("train", "test") if split not in places]:
            raise UserError(f"{self.file} has no row of the {lacking[0]} split")
        splits = {split: found.some(chosen) for split, chosen in places.items()}
        if lost := sorted(set(found.labels) - set(splits["train"].labels)):
            raise UserError(f"{self.file} has no training image of class '{self._class_names[lost[0]]}'")
        return splits

    def _wrong(self, line: int, what: str) -> UserError:
        return UserError(f"{self.file} line {line}: {what}")
