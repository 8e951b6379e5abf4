"""What is in a data set: classes, balance, the split at each rate, sizes. Training images are opened, no others."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.tables import Table
from cotuning_tune.data import DataSet, TaskConfig
from cotuning_tune.data._task import hold_out, sample
from cotuning_tune.inspection.parts import Part, read_parts

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
    """Classes, parts and splits of a data set.

    ``sizes``: width and height of some training images, pixels. ``shown``: the positions in the training part
    that training sees when all labels are used: the only ones that may be shown to people.
    """

    class_names: tuple[str, ...]
    parts: list[Part]
    rates: list[Rate]
    sizes: list[tuple[int, int]]
    shown: list[int]

    @property
    def train(self) -> Part:
        return self.parts[0]

    def balance(self) -> Table:
        """A row for each part: its images, and how many a class has."""
        rows = []
        for part in self.parts:
            there = part.per_class
            counts = [there[label] for label in range(len(self.class_names))]
            rows.append([part.part, str(len(part)), *_spread(counts)])
        note = "min, median and max: images a class."
        return Table("balance", "", ["part", "images", "min", "median", "max"], rows, note)

    def split(self) -> Table:
        """A row for each rate: what training sees and what selection looks at."""
        rows = [[f"{100 * r.rate:g} %", str(r.train), str(r.val)] for r in self.rates]
        own = any(part.part == "val" for part in self.parts)
        note = "The validation part is the published one." if own else "Sampled first, then split, both by class."
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
    """Count everything; images are opened for their sizes alone, and only of the training part.

    ``config``: of the task, for its validation share and split seed. Raises UserError for a rate outside
    (0, 1], or a folder that is no such data set.
    """
    for rate in rates:
        if not 0 < rate <= 1:
            raise UserError(f"rate {rate:g} must lie above 0 and not above 1")
    parts = {part.part: part for part in read_parts(data)}
    train, val = parts["train"], parts.get("val")
    splits = [Rate(rate, *map(len, split_at(rate, train, val, config))) for rate in rates]
    shown = split_at(1.0, train, val, config)[0]
    return Description(data.class_names, list(parts.values()), splits, _sizes(train), shown)


def split_at(rate: float, train: Part, val: Part | None, config: TaskConfig) -> tuple[list[int], list[int]]:
    """Positions that training sees at a rate, and those that validate it: of ``val`` where that is published."""
    kept = sample(train, rate, config.split_seed)
    if val is not None:
        return kept, list(range(len(val)))
    return hold_out(train, kept, config.val_fraction, config.split_seed)


def by_hash(part: Part, positions: Iterable[int]) -> list[int]:
    """The positions in an order that looks random and is the same every time."""
    return sorted(positions, key=lambda position: content_key(part.names[position]))


def _sizes(part: Part) -> list[tuple[int, int]]:
    """Sides of some images that are files; files that cannot be read are left to ``verify``."""
    if part.root is None:
        return []
    sizes = []
    for position in by_hash(part, range(len(part)))[:SIZES_OF]:
        try:
            with Image.open(part.path(position)) as image:
                sizes.append(image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return sizes
