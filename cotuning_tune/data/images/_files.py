"""Data sets that are image files: which files make up a split, and how a split is read."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import leaves
from cotuning_tune.base.pixels import decoder
from cotuning_tune.base.walk import told
from cotuning_tune.data._data_set import DataSet, Listing
from cotuning_tune.data._duplicates import Contents
from cotuning_tune.data.images._decoding import ImageFiles
from cotuning_tune.data.images._images import DecodedImages, EachTimeImages

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Files:
    """The image files of a split: ``names`` relative to ``root``, and the class number of each.

    ``passed``: by reason, names of files that lie among them and were not taken. ``groups``: of each image what no
    drawn split may tear apart ('': it is alone), where there is such a thing. Raises UserError for a name that leads
    out of ``root``: whoever reads a list has its line.
    """

    root: Path
    names: Sequence[str]
    labels: Sequence[int]
    passed: Mapping[str, list[str]] = field(default_factory=dict)
    groups: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if outside := next(filter(leaves, self.names), None):
            raise UserError(f"{outside!r} leads out of {self.root}")

    def some(self, positions: Sequence[int]) -> "Files":
        """The files at these positions."""
        groups = None if self.groups is None else [self.groups[p] for p in positions]
        names, labels = [self.names[p] for p in positions], [self.labels[p] for p in positions]
        return Files(self.root, names, labels, self.passed, groups)

    def contents(self) -> Contents:
        """Names, labels and digests; files are read where their quick key is new.

        Raises UserError for a missing file.
        """
        return Contents(self.names, self.labels, ImageFiles(self.root, self.names, 0).digests)


class FileDataSet(DataSet):
    """A data set of image files. A subclass says which files a split has; nothing is opened until it is asked for."""

    @property
    def decoder(self) -> str:  # type: ignore[override]
        return decoder(self.decoding)

    @abstractmethod
    def files(self, split: str) -> Files | None:
        """The files of ``train``, ``val`` or ``test``, as published; None where there is no such split.

        Raises UserError where the folder does not look as its owners publish it.
        """

    def train(self) -> Listing:
        return self._read(self._split("train"))

    def val(self) -> Listing | None:
        found = self.files("val")
        return None if found is None else self._read(found)

    def test(self) -> Listing:
        return self._read(self._split("test"))

    def contents(self, split: str) -> Contents | None:
        found = self.files(split)
        return None if found is None else found.contents()

    def check(self) -> None:
        if not self._split("test").names:
            raise UserError(f"{type(self).__name__} has no test image")
        for found in filter(None, map(self.files, SPLITS)):
            listing = self._read(found)  # decodes them all where they are decoded once
            if isinstance(listing.examples, EachTimeImages):
                listing.examples.check()

    def not_taken(self) -> list[str]:
        found: dict[str, dict[str, None]] = {}
        for files in filter(None, map(self.files, SPLITS)):
            for reason, names in files.passed.items():
                found.setdefault(reason, {}).update(dict.fromkeys(names))  # splits of one walk share them
        return told({reason: [*names] for reason, names in found.items()})

    def _split(self, split: str) -> Files:
        found = self.files(split)
        if found is None:
            raise UserError(f"{type(self).__name__} has no {split} split")
        return found

    def _read(self, found: Files) -> Listing:
        files = ImageFiles(found.root, found.names, self.stored_size, self.decoding)
        images = EachTimeImages(files) if self.decode == "each" or not found.names else DecodedImages(files)
        return Listing(found.names, found.labels, images, found.groups)
