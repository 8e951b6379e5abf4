"""FGVC Aircraft, 100 variants of aircraft (Maji et al. 2013): trained on its trainval split, as published."""

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from PIL import Image

from cotuning_tune.base.cache import cache_folder, content_key
from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import write_bytes
from cotuning_tune.base.pixels import open_image
from cotuning_tune.data._data_set import Listing
from cotuning_tune.data.images._files import Files
from cotuning_tune.data.images._lists import refuse_missing
from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Fetched, FetchedConfig
from cotuning_tune.hyper import hyper

log = logging.getLogger(__name__)
BANNER = 20


class FgvcAircraft(Fetched):
    """10,000 photographs of aircraft. The strip of 20 pixels below each names its source and stays, as in the paper."""

    @dataclass(frozen=True, kw_only=True)
    class Config(FetchedConfig):
        split: Literal["trainval", "train"] = hyper("trainval", doc="train: validated on the published val split")
        crop_banner: bool = hyper(False, doc="cut off the 20 pixels at the bottom")

    page = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
    metric = "mean_class_accuracy"
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
        lists = {"train": self.config.split, "test": "test"} | ({"val": "val"} if self.config.split == "train" else {})
        return names, {split: self._rows(f"images_variant_{source}.txt", labels) for split, source in lists.items()}

    def _rows(self, source: str, labels: dict[str, int]) -> Rows:
        images = self.table(source)
        return [(f"images/{key}.jpg", self.look_up(labels, name, "variants.txt")) for key, name in images.items()]

    def _read(self, found: Files) -> Listing:
        if not self.config.crop_banner:
            return super()._read(found)
        refuse_missing(found)
        folder = cache_folder("without_banner") / content_key(str(found.root), self.stored_size)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: _cut(found.root / name, folder / name, self.stored_size), found.names))
        return super()._read(Files(folder, found.names, found.labels))


def _cut(path: Path, to: Path, size: int) -> None:
    """A copy without the banner, of the stored size, where there is none that is newer and has its checksums (PNG)."""
    if to.exists() and to.stat().st_mtime_ns > path.stat().st_mtime_ns:
        if _is_sound(to):
            return
        log.warning("%s is damaged: it is made again", to)
    buffer = io.BytesIO()
    try:
        with open_image(path) as image:
            kept = image.convert("RGB").crop((0, 0, image.width, image.height - BANNER))
        kept.resize((size, size), Image.Resampling.BILINEAR).save(buffer, format="PNG")
        write_bytes(to, buffer.getvalue(), durable=False)
    except Exception as problem:  # a reader raises what it likes
        raise UserError(f"{path} cannot be read: {first_line(problem)}") from None


def _is_sound(path: Path) -> bool:
    """Whether all parts of a PNG file are there and have the checksums that the format gives them."""
    try:
        with open_image(path) as image:
            image.verify()
    except Exception:  # a reader raises what it likes
        return False
    return True
