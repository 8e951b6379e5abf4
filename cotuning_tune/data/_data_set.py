"""What a data set is, and what a task asks of one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import PLAIN, Decoding
from cotuning_tune.data._duplicates import Contents, Shared, Treatment, shared
from cotuning_tune.data._examples import Examples, Views, Words
from cotuning_tune.hyper import at_least, hyper
from cotuning_tune.scores import ACCURACY, CLASSES


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """How examples are stored, cut and split; the published values are the defaults. Sides in pixels."""

    size: int = hyper(224, doc="side of the images that the network sees")
    resize: int = hyper(256, doc="side of the stored images, aspect lost")
    min_scale: float = hyper(0.08, doc="least share of the area that a random crop keeps")
    flip: bool = hyper(True, doc="mirror half of the training images")
    val_fraction: float = hyper(0.2, doc="share of the sampled training images kept for validation")
    split_seed: int = hyper(0, doc="part of the task, not of the training")
    val_seed: int = hyper(0, doc="another validation split of the same sample; 0: the published one where there is one")
    train_on: Literal["train", "trainval"] = hyper("train", doc="trainval: no image is kept for validation")
    max_length: int = hyper(128, doc="of texts: sub-words of a piece; longer sentences are split, none is cut")
    decode: Literal["once", "each"] = hyper("once", doc="into the cache, or each time: the results are the same")
    duplicates: Literal["auto", "refuse", "drop", "keep"] = hyper(
        "auto", doc="images with the same bytes in two given splits; auto: keep those of a published set, else refuse"
    )

    ground: str = hyper("white", doc="colour under transparent parts: a name, or '#rrggbb'")
    truncated: Literal["refuse", "load"] = hyper("refuse", doc="files that end too early; load: the rest is grey")
    max_megapixels: int = hyper(179, doc="larger images are refused before they are decoded")

    @property
    def decoding(self) -> Decoding:
        """What a user has chosen of the decoder's rules."""
        return Decoding(self.ground, self.truncated == "load", self.max_megapixels)

    def __post_init__(self) -> None:
        at_least(self, "task", max_megapixels=1, max_length=8)
        _ = self.decoding
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


@dataclass(frozen=True)
class Listing:
    """Examples with a stable name each, and its stratum: its class, or what splits shall have in equal shares.

    ``groups``: what must not be torn apart ('': alone).
    """

    names: Sequence[str]
    labels: Sequence[int]
    examples: Examples
    groups: Sequence[str] | None = None


class DataSet(ABC):
    """A data set: one file in this folder with one subclass, named after its file.

    ``page``: where its owners publish it. ``layout``: how its folder looks, for people. ``counts``: what is published
    of it: ``classes``, and images by split (``train``, ``val``, ``test``). ``fetches``: it can be downloaded by
    ``download``. Where it is files, ``decode``: ``once`` into the cache, or ``each`` time; ``decoding``: by which
    rules. ``repeats``: equal examples in two given splits are no mistake (short sentences). ``modality``: which
    backbones take it; ``noun``: what its examples are. ``metric``: what it is judged by where nothing else is asked,
    the convention of a published set; ``metrics``: by what it can be. ``overlaps``: what its images are documented to
    have in common with those that weights are pre-trained on.
    """

    Config: ClassVar[type]
    page: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({})
    fetches: ClassVar[bool] = False
    overlaps: ClassVar[str] = ""
    repeats: ClassVar[bool] = False
    modality: ClassVar[Literal["images", "text"]] = "images"
    noun: ClassVar[str] = "images"
    metric: ClassVar[str] = ACCURACY.name
    metrics: ClassVar[tuple[str, ...]] = CLASSES
    decode: str = "once"
    decoding: Decoding = PLAIN
    decoder: str = ""  # what pixels depend on besides the bytes of files

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

    @property
    def source_rows(self) -> tuple[int, ...] | None:
        """Of each class the row of p(source class | row) that it has, -1 for none; None: one each."""
        return None

    @property
    def strata(self) -> tuple[str, ...]:
        """What a listing's labels number: the classes, or what splits shall have in equal shares."""
        return self.class_names

    def prepare(self, config: TaskConfig, words: Words | None) -> None:
        """What a task asks of it; ``words``: how the backbone takes texts, None of images."""
        self.decode, self.decoding = config.decode, config.decoding

    @classmethod
    def views(cls, config: TaskConfig) -> Views:
        """What the network sees of its examples."""
        from cotuning_tune.data.images._views import ImageViews

        return ImageViews(config.size, config.resize, config.min_scale, config.flip)

    def not_taken(self) -> list[str]:
        """What lies among the examples and is none of them: a line for each reason."""
        return []

    def grouping(self) -> str:
        """What its images are grouped by, for people; '' where they are not."""
        return ""

    def contents(self, split: str) -> Contents | None:
        """Names, labels and digests of a split, None where there is none of that name; no pixel is handed on.

        A set that has no files is read for it.
        """
        listing = {"train": self.train, "val": self.val, "test": self.test}[split]()
        return None if listing is None else Contents(listing.names, listing.labels, listing.examples.digests())

    def check(self) -> None:
        """Read and decode every image, the test split's too: a broken one shall not show after the search.

        Nothing is handed on. Raises UserError that names it.
        """

    @abstractmethod
    def test(self) -> Listing:
        """The test split; called by ``Task.open_test``, and by ``data verify`` to count and compare."""


def treatment(config: TaskConfig, data: DataSet) -> Treatment:
    """What becomes of images that stand in two splits as given."""
    if config.duplicates == "auto":  # a published set without some of its images would be another one
        return "keep" if data.page or data.repeats else "refuse"
    return config.duplicates


def shared_by(data: DataSet) -> list[Shared]:
    """The images with the same bytes in two splits of a data set; of files the digests alone are read."""
    contents = {split: data.contents(split) for split in ("train", "val", "test")}
    return shared({split: found for split, found in contents.items() if found is not None}, data.noun)
