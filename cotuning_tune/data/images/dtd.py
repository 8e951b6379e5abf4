"""Describable Textures, 47 words for textures (Cimpoi et al. 2014): one of ten published partitions."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from cotuning_tune.data.images._files import SPLITS
from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Fetched, FetchedConfig
from cotuning_tune.hyper import hyper


class Dtd(Fetched):
    """5,640 images of textures, three equal splits; every partition holds all of them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(FetchedConfig):
        partition: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10] = hyper(1, doc="which of the ten published")

    page = "https://www.robots.ox.ac.uk/~vgg/data/dtd/"
    layout = """
    dtd/ with labels/train1.txt, val1.txt, test1.txt (to 10), images/CLASS/*.jpg
      train1.txt  banded/banded_0002.jpg
    """
    counts = MappingProxyType({"classes": 47, "train": 1880, "val": 1880, "test": 1880})
    folders = ("dtd", "dtd/dtd")
    marks = ("labels",)
    fetcher = "DTD"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        lists = {split: self.lines(f"labels/{split}{self.config.partition}.txt") for split in SPLITS}
        names = sorted({line.split("/")[0] for line in lists["train"]})
        labels = {name: label for label, name in enumerate(names)}
        return names, {
            split: [(f"images/{line}", self.look_up(labels, line.split("/")[0], "the training list")) for line in lines]
            for split, lines in lists.items()
        }
