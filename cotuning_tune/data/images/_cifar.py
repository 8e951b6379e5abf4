"""CIFAR (Krizhevsky 2009): images in pickled batches, small in memory, enlarged when they are taken.

Shapes: N images, B of a batch, S the stored side in pixels. Values are uint8, channels first.
"""

import pickle  # nosec B403 # read by ArrayUnpickler alone
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.data._data_set import DataSet, Listing
from cotuning_tune.data.images._images import SomeImages
from cotuning_tune.data.images._published import unlike
from cotuning_tune.data.images._torchvision import FetchedConfig, download_root, fetch

ARRAY = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class ArrayUnpickler(pickle.Unpickler):
    """Reads plain values and numpy arrays; what else a pickle asks for is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy.") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) in ARRAY:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


class EnlargedImages(SomeImages):
    """Small images, ``pixels_N3ss`` uint8, resized to S x S when they are taken: nothing large is kept."""

    def __init__(self, pixels_N3ss: np.ndarray, size: int) -> None:
        self.pixels_N3ss, self.size = pixels_N3ss, size
        self._digests: list[str] = []

    def __len__(self) -> int:
        return len(self.pixels_N3ss)

    def take(self, positions: Sequence[int]) -> Tensor:
        chosen_B3ss = torch.from_numpy(self.pixels_N3ss[np.asarray(positions, dtype=np.int64)])
        return F.resize(chosen_B3ss, [self.size, self.size], antialias=True)

    def fingerprint(self) -> str:
        return content_key("enlarged 1", self.pixels_N3ss, self.size)

    def digests(self) -> list[str]:
        if not self._digests:
            self._digests = [content_key(pixels_3ss) for pixels_3ss in self.pixels_N3ss]
        return self._digests


class Cifar(DataSet):
    """A CIFAR set: ``folder`` holds ``batches`` of each split, and ``meta`` the names of the classes."""

    Config = FetchedConfig
    fetches = True
    fetcher: ClassVar[str]
    folder: ClassVar[str]
    batches: ClassVar[dict[str, tuple[str, ...]]]
    meta: ClassVar[tuple[str, str]]
    label_key: ClassVar[str]

    def __init__(self, config: Any, stored_size: int) -> None:
        super().__init__(config, stored_size)
        if config.download and not (self.root / self.meta[0]).exists():
            self.download(config)
        if lacking := [name for name in self._needed if not (self.root / name).exists()]:
            raise unlike(type(self), f"{self.root} has no {lacking[0]}")

    @classmethod
    def download(cls, config: Any) -> None:
        fetch(cls, cls.fetcher, config)

    @property
    def root(self) -> Path:
        """The folder of the batches."""
        given = download_root(self.config)
        return given if (given / self.meta[0]).exists() else given / self.folder

    @property
    def _needed(self) -> list[str]:
        return [self.meta[0], *self.batches["train"], *self.batches["test"]]

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(map(str, self._load(*self.meta)[0]))

    def train(self) -> Listing:
        return self._listing("train")

    def test(self) -> Listing:
        return self._listing("test")

    def _listing(self, split: str) -> Listing:
        read = [(name, *self._load(name, "data", self.label_key)) for name in self.batches[split]]
        for name, data, labels in read:
            self._check(name, data, labels)
        pixels_N3ss = np.concatenate([data for _, data, _ in read]).reshape(-1, 3, 32, 32)
        labels = [int(label) for _, _, given in read for label in given]
        names = [f"{split}/{number:05d}" for number in range(len(labels))]
        return Listing(names, labels, EnlargedImages(pixels_N3ss, self.stored_size))

    def _check(self, name: str, data: Any, labels: Any) -> None:
        rows = len(labels) if isinstance(labels, list) else -1
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (rows, 3072):
            raise self._wrong(name, "its data are no row of 3 x 32 x 32 bytes for each label")
        if not set(labels) <= set(range(len(self.class_names))):
            raise self._wrong(name, f"it has the class number {max(labels)} of {len(self.class_names)} from 0")

    def _load(self, name: str, *keys: str) -> list[Any]:
        try:
            with (self.root / name).open("rb") as file:
                content = ArrayUnpickler(file, encoding="latin1").load()
            return [content[key] for key in keys]
        except KeyError as problem:
            raise self._wrong(name, f"it has no {problem}") from None
        except Exception as problem:  # a file that is cut off makes the reader stumble anywhere
            raise self._wrong(name, first_line(problem)) from None

    def _wrong(self, name: str, reason: str) -> UserError:
        return unlike(type(self), f"{self.root / name} cannot be read ({reason})")
