"""Gets a data set into its folder where that is allowed, and says what lies there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.tables import size
from cotuning_tune.data import DataSet
from cotuning_tune.inspection.splits import DataSplit, differences, read_splits
from cotuning_tune.inspection.verify import SMALLEST


@dataclass(frozen=True)
class Place:
    """A complete data set: its folder (None: it needs none), classes, images by split, bytes of the files."""

    root: Path | None
    classes: int
    images: dict[str, int]
    size: int

    @property
    def line(self) -> str:
        """``is complete in /data/birds: 200 classes, 5994 train images, 5794 test images, 1.1 GB``."""
        counts = [f"{self.classes} classes", *(f"{count} {split} images" for split, count in self.images.items())]
        where = f"is complete in {self.root}" if self.root else "needs no folder"
        return f"{where}: {', '.join(counts)}{f', {size(self.size)}' if self.size else ''}"


def find_place(kind: type[DataSet], config: Any) -> Place:
    """What lies in the folder of a data set; files are counted, not opened.

    Raises UserError where it is not there, or not complete: published counts differ, a listed file is missing.
    """
    data = kind(config, SMALLEST)
    splits = read_splits(data)
    wrong = differences(data, splits)
    size = 0
    for split in splits:
        missing, split_size = _sizes(split)
        size += split_size
        if missing:
            wrong.append(f"{len(missing)} listed {split.name} image(s) missing, as {missing[0]}")
    root = next((split.root for split in splits if split.root is not None), None)
    if wrong:
        raise UserError(f"{root or kind.__name__} is incomplete: {'; '.join(wrong)}")
    return Place(root, len(data.class_names), {split.name: len(split) for split in splits}, size)


def _sizes(split: DataSplit) -> tuple[list[str], int]:
    """The names of missing files, and the bytes of the others."""
    missing, size = [], 0
    for position, name in enumerate(split.names if split.root is not None else ()):
        try:
            size += split.path(position).stat().st_size
        except FileNotFoundError:
            missing.append(name)
    return missing, size


def prepare(kind: type[DataSet], config: Any) -> Place:
    """The complete data set, downloaded before where it is not there yet and may be.

    Raises UserError where it is not complete and cannot be downloaded, or the download fails.
    """
    try:
        return find_place(kind, config)
    except UserError:
        if not kind.fetches:
            raise
    kind.download(config)
    return find_place(kind, config)
