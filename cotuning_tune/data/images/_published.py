"""Data sets in the folders and lists in which their owners publish them: found, read and checked alike."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import leaves
from cotuning_tune.data._data_set import DataSet, Listing
from cotuning_tune.data.images._files import FileDataSet, Files
from cotuning_tune.data.images._lists import refuse_missing
from cotuning_tune.hyper import hyper

Rows = list[tuple[str, int]]
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class RootConfig:
    """Where the set lies."""

    root: str = hyper("", path=True, doc="folder of the set; needed")


def unlike(kind: type[DataSet], what: str) -> UserError:
    """The error for a folder that is not as published: what is wrong, and the first line of the layout."""
    expected = (kind.layout.strip().splitlines() or ["its owners' layout"])[0].strip()
    fetched = ", or set download = true" if kind.fetches else ""
    return UserError(f"{kind.__name__}: {what}; expected: {expected} (from {kind.page}{fetched})")


class Published(FileDataSet):
    """A data set in its owners' layout. A subclass says what its lists say; they are read once and checked.

    ``folders``: names that its own folder has, below ``root``; ``root`` may also be that folder itself.
    ``marks``: files or folders by which it is known, one is enough. Each mistake in the folder is a UserError.
    """

    Config: ClassVar[type] = RootConfig
    folders: ClassVar[tuple[str, ...]] = ()
    marks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, stored_size: int) -> None:
        super().__init__(config, stored_size)
        self.root = self._find_root()
        self._lists: list[str] = []
        names, splits = self.read()
        self._class_names = tuple(names)
        self._splits = {split: self._files(split, rows) for split, rows in splits.items()}
        self._check()

    @classmethod
    def given_root(cls, config: Any) -> Path:
        """The folder that the options name."""
        if not config.root:
            raise unlike(cls, "root is not set: give the path of the data set's folder")
        return Path(config.root).expanduser().resolve()

    @abstractmethod
    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        """The class names, and by split each image, relative to ``self.root``, with its class number from 0."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names

    def files(self, split: str) -> Files | None:
        return self._splits.get(split)

    def wrong(self, what: str) -> UserError:
        """The error for a folder that is not as published: what is wrong, and what is expected."""
        return unlike(type(self), f"{self.root} {what}")

    def lines(self, name: str) -> list[str]:
        """The lines of a list of the set without the empty ones."""
        self._lists.append(name)
        try:
            text = (self.root / name).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise self.wrong(f"has no {name}") from None
        except (OSError, UnicodeDecodeError) as problem:
            raise self.wrong(f"has a {name} that cannot be read ({first_line(problem)})") from None
        return [stripped for line in text.splitlines() if (stripped := line.strip())]

    def table(self, name: str) -> dict[str, str]:
        """A list of ``key rest-of-line``, each key once."""
        found: dict[str, str] = {}
        for number, line in enumerate(self.lines(name), 1):
            key, _, rest = line.partition(" ")
            if not rest or key in found:
                raise self.wrong(
                    f"has the line '{line}' in {name} (entry {number}): a new name and its value belong there"
                )
            found[key] = rest.strip()
        return found

    def look_up(self, table: Mapping[str, V], key: str, source: str) -> V:
        """What stands in a table of the set at that key; UserError names the list that lacks it."""
        if key not in table:
            raise self.wrong(f"has no '{key}' in {source}")
        return table[key]

    def class_number(self, given: Any, classes: int, source: str, first: int = 1) -> int:
        """A class number of a list, counted from ``first`` there, counted from 0."""
        try:
            number = int(given)
        except ValueError:
            raise self.wrong(f"has '{given}' for a class number in {source}") from None
        if not first <= number < first + classes:
            raise self.wrong(
                f"has the class number {number} in {source}: {first} to {first + classes - 1} are possible"
            )
        return number - first

    def mat(self, name: str, variable: str) -> np.ndarray:
        """A variable of a MATLAB file of the set, at least one-dimensional, without axes of length 1."""
        try:
            from scipy.io import loadmat
        except ImportError:
            raise UserError(f"scipy is needed to read {name}: pip install scipy") from None
        try:
            return np.atleast_1d(loadmat(self.root / name, squeeze_me=True)[variable])
        except FileNotFoundError:
            raise self.wrong(f"has no {name}") from None
        except KeyError:
            raise self.wrong(f"has no '{variable}' in {name}") from None
        except Exception as problem:  # a file that is cut off makes the reader stumble anywhere
            raise self.wrong(f"has a {name} that cannot be read ({first_line(problem)})") from None

    def first_of(self, *names: str) -> str:
        """The first of these files or folders that is there; UserError names the first where none is."""
        found = [name for name in names if (self.root / name).exists()]
        if not found:
            raise self.wrong(f"has no {names[0]}")
        return found[0]

    def _find_root(self) -> Path:
        given = self.given_root(self.config)
        if not given.is_dir():
            raise unlike(type(self), f"there is no folder {given}")
        for folder in (given, *(given / name for name in self.folders)):
            if any((folder / mark).exists() for mark in self.marks):
                return folder
        raise unlike(type(self), f"{given} has no {self.marks[0]}")

    def _read(self, found: Files) -> Listing:
        return super()._read(refuse_missing(found))

    def _files(self, split: str, rows: Rows) -> Files:
        if not rows:
            raise self.wrong(f"lists no image for the {split} split")
        if outside := next((name for name, _ in rows if leaves(name)), ""):
            raise self.wrong(f"lists {outside!r}, which leads out of it{self._line_of(outside)}")
        return Files(self.root, [name for name, _ in rows], [label for _, label in rows])

    def _line_of(self, path: str) -> str:
        """Where in the set's lists a path stands; '' where it stands in none of text."""
        for source in self._lists:
            for number, line in enumerate((self.root / source).read_text(encoding="utf-8-sig").splitlines(), 1):
                if any(len(word) > 1 and word in path for word in line.split() if "/" in word):
                    return f" ({source} line {number})"
        return ""

    def _check(self) -> None:
        """Every class has a training image, and no image is listed twice."""
        if len(self._class_names) < 2:
            raise self.wrong(f"lists {len(self._class_names)} class(es), two or more are needed")
        trained = set(self._splits["train"].labels)
        if lacking := [name for label, name in enumerate(self._class_names) if label not in trained]:
            raise self.wrong(f"lists no training image of class '{lacking[0]}' ({len(lacking)} such classes)")
        seen: dict[str, str] = {}
        for split, files in self._splits.items():
            for name in files.names:
                if name in seen:
                    raise self.wrong(f"lists {name} twice: for {seen[name]} and for {split}")
                seen[name] = split
