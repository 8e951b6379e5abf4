"""SUN397, 397 kinds of scenes (Xiao et al. 2010): one of ten published partitions, or all its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Unparted, UnpartedConfig
from cotuning_tune.hyper import hyper

LISTS = {"train": "Training", "test": "Testing"}


class Sun397(Unparted):
    """108,754 photographs of scenes. A partition has 50 training and 50 test images a class.

    The lists of the partitions are published apart from the images; a folder without them is split by the
    hash of its names, all images in use.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(UnpartedConfig):
        partition: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10] = hyper(1, doc="which of the ten published, where they lie")

    page = "https://vision.princeton.edu/projects/2010/SUN/"
    layout = """
    SUN397/ with ClassName.txt and a/abbey/*.jpg ...; Training_01.txt, Testing_01.txt beside them or in Partitions/
      ClassName.txt    /a/abbey
      Training_01.txt  /a/abbey/sun_aacphuqehdodwawg.jpg
    """
    counts = MappingProxyType({"classes": 397, "train": 19850, "test": 19850})
    folders = ("SUN397",)
    marks = ("ClassName.txt",)
    fetcher = "SUN397"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        folders = [line.lstrip("/") for line in self.lines("ClassName.txt")]
        names = [folder.partition("/")[2] for folder in folders]
        for place in (".", "Partitions", "../Partitions"):
            if (self.root / place / f"Training_{self.config.partition:02d}.txt").exists():
                return names, self._read_partition(place, folders)
        return names, self.split(self.class_rows(folders))

    def _read_partition(self, place: str, folders: list[str]) -> dict[str, Rows]:
        labels = {folder: label for label, folder in enumerate(folders)}
        splits: dict[str, Rows] = {}
        for split, word in LISTS.items():
            images = [line.lstrip("/") for line in self.lines(f"{place}/{word}_{self.config.partition:02d}.txt")]
            splits[split] = [
                (image, self.look_up(labels, image.rpartition("/")[0], "ClassName.txt")) for image in images
            ]
        return splits
