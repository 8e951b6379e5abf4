"""A task is a data set at a sampling rate, with one fixed split: what training may see of it.

First the rate is sampled per class (``ceil(rate * n)``), then 20 % of that, stratified, become the
validation split. Both follow the hash of (split seed, image name): no training seed touches them, and
the sample of a lower rate is part of the sample of a higher one. ``val_seed`` draws other validation splits from the
same sample: a published validation split is then put back among the images that one is drawn from.
"""

import copy
import hashlib
import math
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import _transforms
from cotuning_tune.data._images import Images, PooledImages
from cotuning_tune.data._prefetch import ahead
from cotuning_tune.hyper import hyper, to_flat


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """How images are stored, cut and split; the published values are the defaults. Sides in pixels."""

    size: int = hyper(224, doc="side of the images that the network sees")
    resize: int = hyper(256, doc="side of the stored images, aspect lost")
    min_scale: float = hyper(0.08, doc="least share of the area that a random crop keeps")
    flip: bool = hyper(True, doc="mirror half of the training images")
    val_fraction: float = hyper(0.2, doc="share of the sampled training images kept for validation")
    split_seed: int = hyper(0, doc="part of the task, not of the training")
    val_seed: int = hyper(0, doc="another validation split of the same sample; 0: the published one where there is one")
    train_on: Literal["train", "trainval"] = hyper("train", doc="trainval: no image is kept for validation")
    decode: Literal["once", "each"] = hyper("once", doc="into the cache, or each time: the results are the same")

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise UserError(f"task.size = {self.size} must lie between 1 and task.resize = {self.resize}", "task.size")
        if not 0 < self.val_fraction < 1:
            raise UserError(
                f"task.val_fraction = {self.val_fraction} must be above 0 and below 1",
                "task.val_fraction",
            )
        if not 0 < self.min_scale <= 1:
            raise UserError(
                f"task.min_scale = {self.min_scale} must be above 0 and at most 1",
                "task.min_scale",
            )


class Named(Protocol):
    """Images by a stable name, with a class number each: all that splitting looks at."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def labels(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Listing:
    """Images with a stable name and a class number each."""

    names: Sequence[str]
    labels: Sequence[int]
    images: Images


class DataSet(ABC):
    """A data set: one file in this folder with one subclass, named after its file.

    ``page``: where its owners publish it. ``layout``: how its folder looks, for people. ``counts``: what is
    published of it: ``classes``, and images by split (``train``, ``val``, ``test``). ``fetches``: it can
    be downloaded by ``download``. ``decode``: ``once`` into the cache, or ``each`` time, where it is files.
    """

    Config: ClassVar[type]
    page: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({})
    fetches: ClassVar[bool] = False
    decode: str = "once"

    def __init__(self, config: Any, stored_size: int) -> None:
        self.config = config
        self.stored_size = stored_size

    @classmethod
    def download(cls, config: Any) -> None:
        """Fetch the set into its folder where ``fetches``. Raises UserError where that fails."""
        raise UserError(f"{cls.__name__} cannot be downloaded by this program: get it from {cls.page or 'its owners'}")

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The classes; a label is a position here."""

    @abstractmethod
    def train(self) -> Listing:
        """The training split as its owners publish it."""

    def val(self) -> Listing | None:
        """The published validation split; None: the task splits one off the training split."""
        return None

    def not_taken(self) -> list[str]:
        """What lies among the images and is none of them: a line for each reason."""
        return []

    def check_test(self) -> None:
        """Read and decode every test image: a broken one shall not show after the search. Nothing is handed on.

        Raises UserError that names it.
        """

    @abstractmethod
    def test(self) -> Listing:
        """The test split; called by ``Task.open_test``, and by ``data verify`` to count and compare."""


class Split:
    """Some images of a listing, by position: labels_N int64 and the stored images."""

    def __init__(self, listing: Listing, positions: Sequence[int]) -> None:
        self.images = listing.images
        self.positions = list(positions)
        self.names = [listing.names[p] for p in positions]
        self.labels_N = torch.tensor([listing.labels[p] for p in positions], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.positions)

    def stored(self, chosen: Sequence[int]) -> Tensor:
        """The stored images at these places of the split, uint8 [B, 3, S, S]."""
        return self.images.take([self.positions[c] for c in chosen])

    def plus(self, other: "Split") -> "Split":
        """Every image of both, these first."""
        both = copy.copy(self)
        both.images = PooledImages(self.images, other.images)
        both.positions = self.positions + [len(self.images) + p for p in other.positions]
        both.names, both.labels_N = self.names + other.names, torch.cat([self.labels_N, other.labels_N])
        return both

    def fingerprint(self) -> str:
        """A key of images, order and labels."""
        return content_key(self.images.fingerprint(), self.positions, self.labels_N.tolist())


class Task:
    """Training and validation split of a data set at a rate; the test split only through ``open_test``.

    ``fit``: what is trained on, the training split or both (``TaskConfig.train_on``).
    """

    def __init__(self, name: str, data: DataSet, rate: float, config: TaskConfig) -> None:
        if not 0 < rate <= 1:
            raise UserError(f"rate {rate:g} must be above 0 and at most 1")
        self.name, self.rate, self.config, self._data = name, rate, config, data
        self.class_names = data.class_names
        listing, val = data.train(), data.val()
        self.train, self.val = _splits(listing, val, rate, config)
        if not len(self.train):
            raise UserError(f"{name}: there is no training image")
        if not len(self.val):
            raise no_validation(name, rate, published=val is not None)
        self.fit = self.train if config.train_on == "train" else self.train.plus(self.val)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def not_taken(self) -> list[str]:
        """What lies among the data set's images and is none of them: a line for each reason."""
        return [f"{self.name}: {line}" for line in self._data.not_taken()]

    def check_test(self) -> None:
        """Whether every test image can be read; nobody gets to see one. Raises UserError with its name."""
        self._data.check_test()

    def open_test(self) -> Split:
        """The test split. Retraining alone may call this: a selection that saw it proves nothing."""
        listing = self._data.test()
        return Split(listing, range(len(listing.names)))

    def training_images(self, chosen: Sequence[int], generator: torch.Generator) -> Tensor:
        """Augmented training images, uint8 [B, 3, C, C]."""
        return self.augmented(self.fit.stored(chosen), generator)

    def augmented(self, stored_B3SS: Tensor, generator: torch.Generator) -> Tensor:
        """Random crops of stored images, uint8 [B, 3, C, C], cut on the device where they are."""
        c = self.config
        return _transforms.augment(stored_B3SS, c.size, smallest=c.min_scale, flip=c.flip, generator=generator)

    def crops(self, stored_B3SS: Tensor, kind: _transforms.Crops = "centre") -> tuple[Tensor, ...]:
        """The centre crop of stored images, or the ten crops; uint8 [B, 3, C, C] each."""
        if kind == "ten":
            return _transforms.ten_crops(stored_B3SS, self.config.size)
        return (_transforms.centre_crop(stored_B3SS, self.config.size),)

    def stored_batches(self, split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of a split in order: stored images uint8 [B, 3, S, S], labels [B]; the next one is fetched ahead."""
        places = [range(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]
        for chosen, stored in ahead(split.stored, places):
            yield stored, split.labels_N[chosen.start : chosen.stop]

    def plain_batches(self, split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of a split in order without augmentation: centre crops uint8 [B, 3, C, C], labels [B]."""
        for stored, labels in self.stored_batches(split, batch_size):
            yield self.crops(stored)[0], labels

    def fingerprint(self) -> str:
        """A key of all that training sees: images, labels, split, sizes."""
        sizes = {key: value for key, value in to_flat(self.config).items() if key != "decode"}
        return content_key(self.train.fingerprint(), self.val.fingerprint(), sizes)


def no_validation(name: str, rate: float, *, published: bool) -> UserError:
    """What is said where no image is left for validation; ``published``: the data set has a split for it."""
    cure = "give more images" if rate == 1 else "give more images or a higher rate"
    reason = f"every class has a single training image: {cure}"
    if published:
        reason = "its validation split is empty: fill it, or remove it to have one split off the training split"
    return UserError(f"{name} at {100 * rate:g} %: there is no image for validation, {reason}")


def _pooled(one: Listing, other: Listing) -> Listing:
    return Listing([*one.names, *other.names], [*one.labels, *other.labels], PooledImages(one.images, other.images))


def _splits(listing: Listing, val: Listing | None, rate: float, config: TaskConfig) -> tuple[Split, Split]:
    """Training and validation split; with a ``val_seed`` a published one is drawn anew, as many of each class."""
    seed = config.split_seed
    again: int | str = f"{seed}/{config.val_seed}" if config.val_seed else seed
    if val is not None and not config.val_seed:
        return Split(listing, sample(listing, rate, seed)), Split(val, range(len(val.names)))
    if val is None:
        train, held = hold_out(listing, sample(listing, rate, seed), config.val_fraction, again)
        return Split(listing, train), Split(listing, held)
    pooled, counts = _pooled(listing, val), Counter(map(int, val.labels))
    groups = _by_class(pooled, range(len(pooled.names)))
    held = sorted(p for label, group in groups.items() for p in _validation(pooled, group, again)[: counts[label]])
    train = sorted(set(range(len(pooled.names))) - set(held))
    left = Listing([pooled.names[p] for p in train], [pooled.labels[p] for p in train], pooled.images)
    return Split(pooled, [train[p] for p in sample(left, rate, seed)]), Split(pooled, held)


def _order(listing: Named, positions: Sequence[int], seed: int | str, purpose: str) -> list[int]:
    def key(position: int) -> str:
        name = unicodedata.normalize("NFC", listing.names[position])  # a copy made by another system splits alike
        return hashlib.sha256(f"{purpose}/{seed}/{name}".encode("utf-8", "surrogateescape")).hexdigest()

    return sorted(positions, key=key)


def _validation(listing: Named, group: Sequence[int], seed: int | str) -> list[int]:
    """The images of a class in the order in which they are held out for validation."""
    return _order(listing, group, seed, "validation")


def _by_class(listing: Named, positions: Sequence[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for position in positions:
        groups.setdefault(int(listing.labels[position]), []).append(position)
    return groups


def sample(listing: Named, rate: float, seed: int) -> list[int]:
    """Positions of ``ceil(rate * n)`` images of each class, in the listing's order."""
    kept: list[int] = []
    for group in _by_class(listing, range(len(listing.names))).values():
        count = max(1, math.ceil(rate * len(group) - 1e-9))
        kept += _order(listing, group, seed, "sample")[:count]
    return sorted(kept)


def hold_out(listing: Named, positions: Sequence[int], fraction: float, seed: int | str) -> tuple[list[int], list[int]]:
    """Training and validation positions; of each class the rounded fraction, at least one of two or more."""
    train: list[int] = []
    held: list[int] = []
    for group in _by_class(listing, positions).values():
        count = min(max(round(fraction * len(group)), 1), len(group) - 1)
        order = _validation(listing, group, seed)
        held += order[:count]
        train += order[count:]
    return sorted(train), sorted(held)
