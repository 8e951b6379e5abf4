"""Food-101, 101 dishes (Bossard et al. 2014): noisy training labels, clean test labels."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Fetched


class Food101(Fetched):
    """101,000 photographs of food; no published validation split."""

    page = "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"
    layout = """
    food-101/ with meta/classes.txt, meta/train.txt, meta/test.txt, images/CLASS/*.jpg
      train.txt  apple_pie/1005649
    """
    counts = MappingProxyType({"classes": 101, "train": 75750, "test": 25250})
    folders = ("food-101",)
    marks = ("meta",)
    fetcher = "Food101"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        names = self.lines("meta/classes.txt")
        labels = {name: label for label, name in enumerate(names)}
        return names, {
            split: [
                (f"images/{line}.jpg", self.look_up(labels, line.split("/")[0], "meta/classes.txt"))
                for line in self.lines(f"meta/{split}.txt")
            ]
            for split in ("train", "test")
        }
