"""FGVC Aircraft, 100 variants of aircraft (Maji et al. 2013): trained on its trainval part, as published."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from cotuning_tune.data._published import Rows
from cotuning_tune.data._torchvision import Fetched, FetchedConfig
from cotuning_tune.hyper import hyper


class FgvcAircraft(Fetched):
    """10,000 photographs of aircraft. The strip of 20 pixels below them names the photographer and stays."""

    @dataclass(frozen=True, kw_only=True)
    class Config(FetchedConfig):
        part: Literal["trainval", "train"] = hyper("trainval", doc="train: validated on the published val part")

    page = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
    layout = """
    fgvc-aircraft-2013b/data/ with variants.txt, images_variant_trainval.txt, images_variant_test.txt, images/*.jpg
      images_variant_trainval.txt  1025794 Boeing 707-320      (image and class; also _train, _val)
      variants.txt                 a class name a line
    """
    counts = MappingProxyType({"classes": 100, "train": 6667, "test": 3333})
    folders = ("fgvc-aircraft-2013b/data", "data")
    marks = ("variants.txt",)
    fetcher = "FGVCAircraft"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        names = self.lines("variants.txt")
        labels = {name: label for label, name in enumerate(names)}
        lists = {"train": self.config.part, "test": "test"} | ({"val": "val"} if self.config.part == "train" else {})
        return names, {part: self._rows(f"images_variant_{source}.txt", labels) for part, source in lists.items()}

    def _rows(self, source: str, labels: dict[str, int]) -> Rows:
        images = self.table(source)
        return [(f"images/{key}.jpg", self.look_up(labels, name, "variants.txt")) for key, name in images.items()]
