"""Made-up images, a colour pattern a class with noise: for tests, where no real image is needed."""

from dataclasses import dataclass

import numpy as np

from cotuning_tune.data._data_set import DataSet, Listing
from cotuning_tune.data.images._images import ArrayImages
from cotuning_tune.hyper import at_least, hyper


class Synthetic(DataSet):
    """Each class is a fixed coarse pattern; an image adds noise of ``noise`` grey levels to it."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        classes: int = hyper(4, doc="number of classes")
        images: int = hyper(12, doc="training images a class; as many again to test")
        noise: float = hyper(60.0, doc="standard deviation in grey levels")
        seed: int = hyper(0, doc="other patterns, other noise")

        def __post_init__(self) -> None:
            at_least(self, "data.synthetic", classes=2, images=2, noise=0, seed=0)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"class {number}" for number in range(self.config.classes))

    def _draw(self, split: int) -> Listing:
        c, side = self.config, self.stored_size
        patterns = np.random.default_rng([c.seed, 0]).uniform(0, 255, (c.classes, 3, 4, 4))
        labels = np.arange(c.classes * c.images) % c.classes
        patches = np.arange(side) * 4 // side
        plain = patterns[:, :, patches][:, :, :, patches][labels]
        noise = np.random.default_rng([c.seed, split]).normal(0, c.noise, plain.shape)
        pixels = np.clip(plain + noise, 0, 255).astype(np.uint8)
        return Listing([f"{split}-{n}" for n in range(len(labels))], labels.tolist(), ArrayImages(pixels))

    def train(self) -> Listing:
        return self._draw(1)

    def test(self) -> Listing:
        return self._draw(2)
