"""What is in a data set: classes, balance, the split at each rate, sizes. Training images are opened, no others."""

import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import open_image
from cotuning_tune.base.tables import Table
from cotuning_tune.data import DataSet, TaskConfig
from cotuning_tune.data._task import hold_out, sample
from cotuning_tune.inspection.splits import DataSplit, read_splits

RATES = (0.15, 0.3, 0.5, 1.0)
SIZES_OF = 500


@dataclass(frozen=True)
class Rate:
    """How many images training sees at a sampling rate, and how many validate it."""

    rate: float
    train: int
    val: int


@dataclass(frozen=True)
class Description:
    """Classes and splits of a data set, and its split at each rate.

    ``sizes``: width and height of some training images, pixels. ``shown``: the positions in the training split
    that training sees when all labels are used: the only ones that may be shown to people.
    """

    class_names: tuple[str, ...]
    splits: list[DataSplit]
    rates: list[Rate]
    sizes: list[tuple[int, int]]
    shown: list[int]

    @property
    def train(self) -> DataSplit:
        return self.splits[0]

    def balance(self) -> Table:
        """A row for each split: its images, and how many a class has."""
        rows = []
        for split in self.splits:
            there = split.per_class
            counts = [there[label] for label in range(len(self.class_names))]
            rows.append([split.name, str(len(split)), *_spread(counts)])
        note = "min, median and max: images a class."
        return Table("balance", "", ["split", "images", "min", "median", "max"], rows, note)

    def split(self) -> Table:
        """A row for each rate: what training sees and what selection looks at."""
        rows = [[f"{100 * r.rate:g} %", str(r.train), str(r.val)] for r in self.rates]
        own = any(split.name == "val" for split in self.splits)
        note = "The validation split is the published one." if own else "Sampled first, then split, both by class."
        return Table("split", "", ["labels", "train", "validation"], rows, note)

    def sides(self) -> Table:
        """Sides of the sampled training images in pixels."""
        short, long = [min(size) for size in self.sizes], [max(size) for size in self.sizes]
        rows = [["shorter side", *_spread(short)], ["longer side", *_spread(long)]]
        note = f"Pixels, of {len(self.sizes)} training images."
        return Table("sides", "", ["image", "min", "median", "max"], rows, note)


def _spread(values: Iterable[int]) -> list[str]:
    listed = list(values)
    return [f"{value:g}" for value in (min(listed), statistics.median(listed), max(listed))]


def describe(data: DataSet, config: TaskConfig, rates: Sequence[float] = RATES) -> Description:
    """Count everything; images are opened for their sizes alone, and only of the training split.

    ``config``: of the task, for its validation share and split seed. Raises UserError for a rate outside
    (0, 1], or a folder that does not hold this data set.
    """
    for rate in rates:
        if not 0 < rate <= 1:
            raise UserError(f"rate {rate:g} must be above 0 and at most 1")
    splits = {split.name: split for split in read_splits(data)}
    train, val = splits["train"], splits.get("val")
    at_rates = [Rate(rate, *map(len, split_at(rate, train, val, config))) for rate in rates]
    shown = split_at(1.0, train, val, config)[0]
    return Description(data.class_names, list(splits.values()), at_rates, _sizes(train), shown)


def split_at(rate: float, train: DataSplit, val: DataSplit | None, config: TaskConfig) -> tuple[list[int], list[int]]:
    """Positions that training sees at a rate, and those that validate it: of ``val`` where that is published."""
    kept = sample(train, rate, config.split_seed)
    if val is not None:
        return kept, list(range(len(val)))
    return hold_out(train, kept, config.val_fraction, config.split_seed)


def by_hash(split: DataSplit, positions: Iterable[int]) -> list[int]:
    """The positions in an order that looks random and is the same every time."""
    return sorted(positions, key=lambda position: content_key(split.names[position]))


def _sizes(split: DataSplit) -> list[tuple[int, int]]:
    """Sides of some images that are files; files that cannot be read are left to ``verify``."""
    if split.root is None:
        return []
    sizes = []
    for position in by_hash(split, range(len(split)))[:SIZES_OF]:
        with suppress(Exception), open_image(split.path(position)) as image:  # a reader raises what it likes
            sizes.append(image.size)
    return sizes
