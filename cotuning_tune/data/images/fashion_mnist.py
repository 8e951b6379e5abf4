"""Fashion-MNIST (Xiao et al. 2017, MIT licence): 1000 + 1000 images in the package, or the whole set.

The embedded images are 100 training and 100 test images per class, the first of each in the published
order (``scripts/build_embedded_fashion_mnist.py``); the whole set comes through torchvision.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from cotuning_tune.base.cache import cache_folder
from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.data._data_set import DataSet, Listing
from cotuning_tune.data.images._images import ArrayImages
from cotuning_tune.hyper import hyper

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
EMBEDDED = Path(__file__).parent / "embedded" / "fashion_mnist.npz"


class FashionMnist(DataSet):
    """Grey 28 x 28 images as RGB of the stored size; inverted, they lie on white as photographs do."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        part: Literal["embedded", "full"] = hyper("embedded", doc="in the package, or the 70,000 images")
        invert: bool = hyper(True, doc="white background")
        root: str = hyper("", path=True, doc="folder of the full set; default: the cache folder")
        download: bool = hyper(True, doc="fetch the full set where it is missing")

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASSES

    def train(self) -> Listing:
        return self._load("train")

    def test(self) -> Listing:
        return self._load("test")

    def _load(self, split: str) -> Listing:
        if self.config.part == "embedded":
            with np.load(EMBEDDED, allow_pickle=False) as stored:
                pixels_N28, labels_N = stored[f"{split}_images"], stored[f"{split}_labels"]
        else:
            pixels_N28, labels_N = self._load_full(split)
        if self.config.invert:
            pixels_N28 = 255 - pixels_N28
        side = self.stored_size
        resized = F.resize(torch.from_numpy(pixels_N28)[:, None], [side, side], antialias=True)
        images = ArrayImages(resized.expand(-1, 3, -1, -1).contiguous().numpy())
        return Listing([f"{split}/{n:05d}" for n in range(len(labels_N))], labels_N.tolist(), images)

    def _load_full(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        from torchvision.datasets import FashionMNIST

        root = Path(self.config.root or cache_folder("downloads"))
        try:
            data = FashionMNIST(str(root), train=split == "train", download=self.config.download)
        except (OSError, RuntimeError) as problem:
            reason = first_line(problem)
            raise UserError(
                f"the full Fashion-MNIST is not in {root} and could not be fetched ({reason});"
                " set data.fashion_mnist.root to its folder, or part = 'embedded'"
            ) from None
        return data.data.numpy(), data.targets.numpy()
