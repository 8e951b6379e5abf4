"""What is in a data set: classes, balance, the split at each rate, sizes, and what its splits have in common.

Training images alone are shown; of the others digests and perceptual hashes are made, for what splits have in common.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError, first_three, printable
from cotuning_tune.base.parallel import on_threads
from cotuning_tune.base.pixels import open_image
from cotuning_tune.base.tables import Table
from cotuning_tune.data import DataSet, TaskConfig
from cotuning_tune.data._data_set import treatment
from cotuning_tune.data._duplicates import Contents, consequence, in_two_splits, shared, two_labels
from cotuning_tune.data._splitting import grouped, hold_out, sample
from cotuning_tune.data._task import grouping_line
from cotuning_tune.inspection.near import NOT_COUNTED, can_compare, look, near_duplicates, near_lines
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
    that training sees when all labels are used: the only ones that may be shown to people. ``lines``: groups, and what
    splits have in common.
    """

    class_names: tuple[str, ...]
    splits: list[DataSplit]
    rates: list[Rate]
    sizes: list[tuple[int, int]]
    shown: list[int]
    lines: list[str] = field(default_factory=list)

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
    """Count everything; images are shown, and opened for their sizes, of the training split alone.

    ``config``: of the task, for its validation share, split seed and ``duplicates``. Raises UserError for a rate
    outside (0, 1], or a folder that does not hold this data set.
    """
    for rate in rates:
        if not 0 < rate <= 1:
            raise UserError(f"rate {rate:g} must be above 0 and at most 1")
    splits = {split.name: split for split in read_splits(data)}
    contents = {name: _contents(data, split) for name, split in splits.items()}
    sharing, treated = shared(contents), treatment(config, data)
    dropped = {(one.split, p) for one in sharing if treated == "drop" for p in one.positions}
    used = {name: [p for p in range(len(split)) if (name, p) not in dropped] for name, split in splits.items()}
    train = splits["train"]
    groups = grouped(train.names, train.groups, contents["train"].digests)
    at = {rate: split_at(rate, train, used, config, groups) for rate in {*rates, 1.0}}
    at_rates = [Rate(rate, *map(len, at[rate])) for rate in rates]
    lines = [grouping_line(data.grouping(), train.groups)] if train.groups else []
    lines += [consequence(one, treated) for one in sharing] + two_labels(contents, data.class_names)
    lines += _near(list(splits.values()), contents)
    sizes, broken = _sizes(train)
    return Description(data.class_names, list(splits.values()), at_rates, sizes, at[1.0][0], lines + broken)


def split_at(
    rate: float, train: DataSplit, used: Mapping[str, Sequence[int]], config: TaskConfig, groups: Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """Positions that training sees at a rate, and those that validate it: of ``val`` where that is published.

    ``used``: the positions of each split that are not left out.
    """
    kept = sample(train, rate, config.split_seed, used["train"])
    if "val" in used:
        return kept, list(used["val"])
    return hold_out(train, kept, config.val_fraction, config.split_seed, groups)


def _near(splits: Sequence[DataSplit], contents: Mapping[str, Contents]) -> list[str]:
    """A line for each split with images that look like some of an earlier one; of sets that are files."""
    if len(splits) < 2 or any(split.root is None for split in splits):
        return []
    if not can_compare():
        return [NOT_COUNTED]
    places = [(split, position) for split in splits for position in range(len(split))]
    looks: dict[str, list[bytes]] = {split.name: [] for split in splits}
    for (split, _), found in zip(places, on_threads(_look, places), strict=True):
        looks[split.name].append(found)
    same = in_two_splits({name: found.digests for name, found in contents.items()})
    return near_lines(near_duplicates(looks, same), {split.name: split.names for split in splits})


def _look(place: tuple[DataSplit, int]) -> bytes:
    """The perceptual hash of an image; none of one that cannot be read, which is left to ``verify``."""
    split, position = place
    with suppress(Exception):  # a reader raises what it likes
        return look(split.image(position))
    return b""


def _contents(data: DataSet, split: DataSplit) -> Contents:
    """The digests of a split; none where a file is missing, which is left to ``verify``."""
    with suppress(UserError):
        if found := data.contents(split.name):
            return found
    return Contents(split.names, split.labels, [""] * len(split))


def by_hash(split: DataSplit, positions: Iterable[int]) -> list[int]:
    """The positions in an order that looks random and is the same every time."""
    return sorted(positions, key=lambda position: content_key(split.names[position]))


def _sizes(split: DataSplit) -> tuple[list[tuple[int, int]], list[str]]:
    """Sides of some images that are files, and a line about those that cannot be opened."""
    if split.root is None:
        return [], []
    sizes, broken = [], []
    looked = by_hash(split, range(len(split)))[:SIZES_OF]
    for position in looked:
        try:
            with open_image(split.path(position)) as image:
                sizes.append(image.size)
        except Exception:  # a reader raises what it likes
            broken.append(printable(split.names[position]))
    if not broken:
        return sizes, []
    named = first_three(sorted(broken))
    return sizes, [f"{len(broken)} of {len(looked)} training images cannot be opened: {named}; see 'data verify'"]
