"""The method, the data set and the backbone do what cotuning_tune asks of each."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cotuning_tune.testing import BackboneConformance, DataSetConformance, MethodConformance


class TestAfn(MethodConformance):
    """The method."""

    method = "afn"


class TestTinyPatches(BackboneConformance):
    """The backbone."""

    backbone = "tiny_patches"
    side = 32


class TestPrefixFolder(DataSetConformance):
    """The data set."""

    data_set = "prefix_folder"

    def write(self, folder: Path) -> dict[str, Any]:
        """Noise, six images of each class to train and three to test."""
        rng = np.random.default_rng(0)
        for split, count in {"train": 6, "test": 3}.items():
            (folder / split).mkdir()
            for name in (f"{label}_{number}.png" for label in ("blue_jay", "wren") for number in range(count)):
                pixels = rng.integers(0, 256, (20, 16, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name)
        return {"root": str(folder)}
