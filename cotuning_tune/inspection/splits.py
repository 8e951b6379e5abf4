"""The splits of a data set, as files where it is files and as arrays where it is made or packed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cotuning_tune.base.pixels import PLAIN, Decoding, open_image, upright
from cotuning_tune.data import SPLITS, DataSet, Examples, FileDataSet

STORED_SIDE = 96


@dataclass(frozen=True)
class DataSplit:
    """Names and class numbers of ``train``, ``val`` or ``test``; either ``root`` or ``images`` is there."""

    name: str
    names: Sequence[str]
    labels: Sequence[int]
    root: Path | None = None
    images: Examples | None = None
    decoding: Decoding = PLAIN
    groups: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def per_class(self) -> Counter[int]:
        """Images of each class number."""
        return Counter(int(label) for label in self.labels)

    def path(self, position: int) -> Path:
        """The file at this position; only where there are files."""
        if self.root is None:
            raise ValueError(f"the split {self.name} has no files")
        return self.root / self.names[position]

    def image(self, position: int) -> Image.Image:
        """The image at this position as RGB. Raises OSError and others where a file cannot be read."""
        if self.images is None:
            with open_image(self.path(position), self.decoding) as opened:
                return upright(opened, self.decoding)
        return Image.fromarray(self.images.take([position])[0].permute(1, 2, 0).numpy())


def read_split(data: DataSet, split: str) -> DataSplit | None:
    """A split of the data set, None where it has none of that name; files are listed, not opened.

    Raises UserError where the folder does not look as its owners publish it.
    """
    if isinstance(data, FileDataSet):
        found = data.files(split)
        if found is None:
            return None
        return DataSplit(split, found.names, found.labels, found.root, decoding=data.decoding, groups=found.groups)
    listing = {"train": data.train, "val": data.val, "test": data.test}[split]()
    return (
        None
        if listing is None
        else DataSplit(split, listing.names, listing.labels, images=listing.examples, groups=listing.groups)
    )


def read_splits(data: DataSet) -> list[DataSplit]:
    """The splits that there are, in the order train, val, test."""
    return [found for split in SPLITS if (found := read_split(data, split)) is not None]


def differences(data: DataSet, splits: Sequence[DataSplit]) -> list[str]:
    """What differs from the published ``counts``, a line each; nothing where none are published."""
    found = {"classes": len(data.class_names), "images": sum(map(len, splits))}
    found |= {split.name: len(split) for split in splits}
    return [
        f"{found.get(what, 0)} {noun(what)} instead of the published {published}"
        for what, published in data.counts.items()
        if found.get(what, 0) != published
    ]


def noun(what: str) -> str:
    """``classes``, ``images`` (of a set without published splits), or ``train images``."""
    return what if what in ("classes", "images") else f"{what} images"
