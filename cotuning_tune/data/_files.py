"""Data sets that are image files: which files make up a part, and how a part is read."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cotuning_tune.data._images import DecodedImages
from cotuning_tune.data._task import DataSet, Listing, hold_out
from cotuning_tune.errors import UserError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Files:
    """The image files of a part: ``names`` relative to ``root``, and the class number of each."""

    root: Path
    names: Sequence[str]
    labels: Sequence[int]

    def some(self, positions: Sequence[int]) -> "Files":
        """The files at these positions."""
        return Files(self.root, [self.names[p] for p in positions], [self.labels[p] for p in positions])


def own_split(whole: Files, test_fraction: float, seed: int) -> dict[str, Files]:
    """``train`` and ``test`` of a set without parts: a fixed share of each class by the hash of the names."""
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction = {test_fraction:g} must lie between 0 and 1, both excluded")
    train, test = hold_out(whole, range(len(whole.names)), test_fraction, seed)
    return {"train": whole.some(train), "test": whole.some(test)}


class FileDataSet(DataSet):
    """A data set of image files. A subclass says which files a part has; nothing is opened until it is asked for."""

    @abstractmethod
    def files(self, part: str) -> Files | None:
        """The files of ``train``, ``val`` or ``test``, as published; None where there is no such part.

        Raises UserError where the folder does not look as its owners publish it.
        """

    def train(self) -> Listing:
        return self._read(self._part("train"))

    def val(self) -> Listing | None:
        found = self.files("val")
        return None if found is None else self._read(found)

    def test(self) -> Listing:
        return self._read(self._part("test"))

    def _part(self, part: str) -> Files:
        found = self.files(part)
        if found is None:
            raise UserError(f"{type(self).__name__} has no {part} part")
        return found

    def _read(self, found: Files) -> Listing:
        try:
            images = DecodedImages(found.root, found.names, self.stored_size)
        except FileNotFoundError:
            missing = [name for name in found.names if not (found.root / name).exists()]
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise UserError(
                f"{len(missing)} of {len(found.names)} listed images are not in {found.root}:"
                f" {', '.join(missing[:3])}{more}"
            ) from None
        return Listing(found.names, found.labels, images)
