"""What lists of images have in common: names of splits, their own split where none is published, and missing files."""

import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from cotuning_tune.base.errors import UserError, first_three
from cotuning_tune.data._data_set import Listing
from cotuning_tune.data._splitting import grouped, hold_out
from cotuning_tune.data.images._files import SPLITS, FileDataSet, Files
from cotuning_tune.hyper import hyper

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_OF = {word: split for split, words in NAMES.items() for word in words}
UNUSED = "of no split that is used"
NO_COLUMN = "none"
MOST_DIGITS = 1000  # of a label that is a number


class Row(NamedTuple):
    """An image: its name below the root, its class, its split and its group, '' where none is given."""

    name: str
    label: str
    split: str
    group: str = ""


@dataclass(frozen=True)
class Content:
    """What a list says: rows, the order of the classes where it has one, and by reason what was not taken.

    ``grouping``: the column of the groups, '' where there is none.
    """

    root: Path
    rows: Sequence[Row]
    classes: Sequence[str] = ()
    passed: Mapping[str, list[str]] | None = None
    grouping: str = ""


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """Which files are which split, where their names do not say so."""

    train: str = hyper("", doc="pattern of the training files, as *-part1*.tar (default: with train, training in it)")
    val: str = hyper("", doc="pattern of the validation files (default: with val, valid, validation, dev in it)")
    test: str = hyper("", doc="pattern of the test files (default: with test, testing in it)")


class ListedImages(FileDataSet):
    """Images that a list names. A subclass reads the list; it is read once, and checked.

    ``where``: the file or folder that mistakes are reported of. Raises UserError for fewer than two classes, for a
    split or a class without a training image, and for listed images that are not there.
    """

    def __init__(self, config: Any, stored_size: int) -> None:
        super().__init__(config, stored_size)
        content = self.read()
        self._grouping = content.grouping
        self._class_names, self._splits = self._by_split(content)

    @property
    @abstractmethod
    def where(self) -> Path:
        """The file or folder that the options name."""

    @abstractmethod
    def read(self) -> Content:
        """What the list says."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names

    def files(self, split: str) -> Files | None:
        return self._splits.get(split)

    def grouping(self) -> str:
        return f"column {self._grouping}" if self._grouping else ""

    def _read(self, found: Files) -> Listing:
        return super()._read(refuse_missing(found))

    def _by_split(self, content: Content) -> tuple[tuple[str, ...], dict[str, Files]]:
        used = {row.label for row in content.rows}
        classes = tuple(name for name in content.classes if name in used) if content.classes else ordered(used)
        if len(classes) < 2:
            raise UserError(f"{self.where} has {len(classes)} class(es); two or more are needed")
        labels = {name: label for label, name in enumerate(classes)}
        seen: dict[str, str] = {}
        for name, _, split, _ in content.rows:
            if seen.setdefault(name, split) != split:
                raise UserError(f"{self.where} has {name} in the {seen[name]} and in the {split} split")
        passed = {reason: found for reason, found in (content.passed or {}).items() if found}
        if empty := [name for name in content.classes if name not in used]:
            passed["a class without an image"] = empty
        groups = [row.group for row in content.rows] if content.grouping else None
        names, numbers = [row.name for row in content.rows], [labels[row.label] for row in content.rows]
        whole = Files(content.root, names, numbers, passed, groups)
        if not any(row.split for row in content.rows):
            return classes, own_split(whole, self.config.test_fraction, self.config.split_seed)
        places: dict[str, list[int]] = {}
        for place, row in enumerate(content.rows):
            places.setdefault(row.split, []).append(place)
        if lacking := [split for split in ("train", "test") if split not in places]:
            raise UserError(f"{self.where} has no row of the {lacking[0]} split")
        splits = {split: whole.some(chosen) for split, chosen in places.items()}
        refuse_torn(splits, f"{self.where} column {content.grouping}")
        if lost := sorted(set(whole.labels) - set(splits["train"].labels)):
            raise UserError(f"{self.where} has no training image of class '{classes[lost[0]]}'")
        return classes, splits


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in order; those that are numbers as numbers: 1 and 01 are two, in an order of their own."""
    names = set(labels)
    numbers = all(name.isdecimal() and len(name) < MOST_DIGITS for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def own_split(whole: Files, test_fraction: float, seed: int) -> dict[str, Files]:
    """``train`` and ``test`` of a set without splits: a fixed share of each class by the hash of the names.

    Images of one group, or with the same bytes, stay in one of them.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction = {test_fraction:g} must be above 0 and below 1")
    groups = grouped(whole.names, whole.groups, _digests(whole))
    train, test = hold_out(whole, range(len(whole.names)), test_fraction, seed, groups)
    return {"train": whole.some(train), "test": whole.some(test)}


def _digests(whole: Files) -> Sequence[str] | None:
    """Of each file; None where one is missing: whoever reads the images names it."""
    try:
        return whole.contents().digests
    except UserError:
        return None


def refuse_torn(splits: Mapping[str, Files], source: str) -> None:
    """UserError with number and example where given splits have images of one group in two of them."""
    where: dict[str, dict[str, str]] = {}
    for split, files in splits.items():
        for name, group in zip(files.names, files.groups or (), strict=False):
            if group:
                where.setdefault(group, {}).setdefault(split, name)
    if torn := {group: places for group, places in where.items() if len(places) > 1}:
        group, places = next(iter(torn.items()))
        example = ", ".join(f"{name} in {split}" for split, name in places.items())
        raise UserError(
            f"{source}: {len(torn)} of {len(where)} groups have images in two splits: {group} has {example};"
            f' give each group one split, or set group = "{NO_COLUMN}" where the column says something else'
        )


def refuse_missing(found: Files) -> Files:
    """The files themselves. Raises UserError that names the first of those which are listed but not there."""
    missing = [name for name in found.names if not os.path.isfile(found.root / name)]  # noqa: PTH113 - no error for a name that no file can have
    if missing:
        raise UserError(
            f"{len(missing)} of {len(found.names)} listed images are not in {found.root}: {first_three(missing)}"
        )
    return found


def needed(path: str, what: str, key: str = "root") -> Path:
    """The path that an option gives. Raises UserError where it is not set or not there."""
    if not path:
        raise UserError(f"{what} needs its path: set {key} in its [data.NAME] table")
    found = Path(path).expanduser().resolve()
    if not found.exists():
        raise UserError(f"there is no {found} ({key} of {what})")
    return found


def by_split(where: Path, names: Sequence[str], given: Patterns) -> tuple[dict[str, str], list[str]]:
    """The split of each file, '' of all where no name says one; and those that no given pattern takes.

    Without patterns the words of a name decide (``imagenet-train-000001.tar``). Raises UserError where they do not.
    """
    patterns = {split: pattern for split, pattern in vars(given).items() if pattern}
    if patterns:
        return _by_pattern(where, names, patterns)
    found = {name: _words(name) for name in names}
    if unclear := [name for name, splits in found.items() if len(splits) > 1]:
        raise _ask(where, f"{unclear[0]} may be {' or '.join(sorted(found[unclear[0]]))}")
    splits = {name: next(iter(splits), "") for name, splits in found.items()}
    there = set(splits.values())
    if there == {""}:
        return splits, []
    if "" in there:
        other = next(name for name, split in splits.items() if not split)
        known = next(name for name, split in splits.items() if split)
        raise _ask(where, f"{known} is of the {splits[known]} split, but what is {other}")
    _refuse_lacking(where, splits)
    return splits, []


def _by_pattern(where: Path, names: Sequence[str], patterns: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    splits: dict[str, str] = {}
    for split, pattern in patterns.items():
        matching = [name for name in names if fnmatch(name, pattern)]
        if not matching:
            raise UserError(f"{where} has nothing like {pattern} (splits); there are: {first_three(names)}")
        if twice := [name for name in matching if name in splits]:
            raise UserError(f"{where}: {twice[0]} is of the {splits[twice[0]]} and of the {split} split (splits)")
        splits |= dict.fromkeys(matching, split)
    _refuse_lacking(where, splits)
    return splits, [name for name in names if name not in splits]


def _words(name: str) -> set[str]:
    """The splits whose words are in a file's name, or in the names of its folders."""
    return {SPLIT_OF[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_OF}


def _refuse_lacking(where: Path, splits: Mapping[str, str]) -> None:
    there = [split for split in SPLITS if split in splits.values()]
    if lacking := [split for split in ("train", "test") if split not in there]:
        raise _ask(where, f"there is {', '.join(there)}, but no {lacking[0]} split among {first_three([*splits])}")


def _ask(where: Path, problem: str) -> UserError:
    return UserError(
        f'{where}: {problem}: say splits = {{ train = "PATTERN", test = "PATTERN" }} in its [data.NAME] table'
    )
