"""The claims about what was trained: models on test images (1), and configurations over their seeds (2).

Shapes: M methods, K seeds, N test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

import numpy as np

from cotuning_tune.report.claims import LEVEL
from cotuning_tune.report.models import Model, example_claim, seed_claim
from cotuning_tune.runs.predictions import Predictions
from tests.report.synthetic import METHODS

RIGHT = 0.7  # share of the images that a model classifies right
OWN = 0.5  # standard deviations of what is a model's and a seed's own, where the difficulty of an image has 1
NORMAL = NormalDist()


def predictions(right_N: Any) -> Predictions:
    """Of images of one class, what a model says that is right on those marked."""
    labels = np.zeros(len(right_N), np.int32)
    nothing = np.zeros(len(right_N), np.float32)
    return Predictions(labels, (~right_N).astype(np.int32), nothing, nothing, "", ("class", "other"))


@dataclass(frozen=True)
class ImagesPart:
    """Claim 1. Models that are right on equally many of all images, but for the last: ``points`` more."""

    name: str
    title: str
    images: int
    points: int = 0
    seeds: int = 3
    methods: int = 5
    section: str = "These models (claim 1; a unit is a test image)"
    weight: float = 0.5
    bounded: bool = True
    exact: bool = True

    def models(self, rng: np.random.Generator) -> dict[str, Model]:
        """Retrained models, tested on the same images: some images are hard for all, some for one."""
        M, K, N = self.methods, self.seeds, self.images
        own_MKN = OWN * (rng.normal(size=(M, 1, N)) + rng.normal(size=(M, K, N)))
        limit = (1 + 2 * OWN**2) ** 0.5 * np.array([NORMAL.inv_cdf(share) for share in self.shares.values()])
        right_MKN = rng.normal(size=N) + own_MKN < limit[:, None, None]
        return {method: Model([predictions(one) for one in right_MKN[m]]) for m, method in enumerate(self.shares)}

    @property
    def shares(self) -> dict[str, float]:
        """By method, the share of all images that its models are right on."""
        names = METHODS[: self.methods]
        return {method: RIGHT + self.points / 100 * (method == names[-1]) for method in names}

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        models = self.models(rng)
        claim = example_claim({method: model.values for method, model in models.items()})
        best = METHODS[self.methods - 1]
        inside = [low <= 100 * self.shares[m] <= high for m, (low, high) in ((m, models[m].interval) for m in models)]
        equal = [method for method in claim.p if not self.points or method != best]
        record = {
            "false_verdict": float(any(claim.p[method] <= LEVEL for method in equal)),
            "false_verdict_highest": float(self._wrongly_highest(claim.best, claim.p_best)),
            "coverage": fmean(inside),
        }
        return record | ({"power": float(claim.p[best] <= LEVEL)} if self.points else {})

    def _wrongly_highest(self, highest: str, p: Mapping[str, float]) -> bool:
        """Whether the highest model is said to differ from one that it does not exceed."""
        shares = self.shares
        return any(p[method] <= LEVEL and shares[method] >= shares[highest] for method in p)


@dataclass(frozen=True)
class SeedsPart:
    """Claim 2. Configurations with equal expectations, but for the last: ``points`` more. ``noisy`` as in ``World``."""

    name: str
    title: str
    seeds: int
    points: int = 0
    noisy: tuple[int, float] = (0, 1.0)
    methods: int = 5
    spread: float = 0.5
    section: str = "These configurations (claim 2; a unit is a seed)"
    weight: float = 1.0
    bounded: bool = True

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        names, number = METHODS[: self.methods], self.noisy[0]
        y_MK = 70 + self.spread * rng.normal(size=(self.methods, self.seeds))
        y_MK[number] += (self.noisy[1] - 1) * (y_MK[number] - 70)
        y_MK[-1] += self.points
        p = seed_claim({method: [float(y) for y in y_MK[m]] for m, method in enumerate(names)})
        equal = [method for method in p if not self.points or method != names[-1]]
        record = {"false_verdict": float(any(p[method] <= LEVEL for method in equal))}
        return record | ({"power": float(p[names[-1]] <= LEVEL)} if self.points else {})


def _images() -> list[ImagesPart]:
    parts = []
    for images, weight in ((200, 1.0), (1000, 0.5), (5000, 0.15)):
        for points in range(4):
            told = f"one model {points} point{'s' if points > 1 else ''} better" if points else "equal models"
            name = f"claim1_{images}images" + (f"_plus{points}" if points else "")
            share = weight * (0.5 if points else 1)
            parts.append(ImagesPart(name, f"{images} test images, {told}", images, points, weight=share))
    one = ImagesPart("claim1_1000images_1seed", "1000 test images, equal models, 1 seed", 1000, seeds=1)
    return [*parts, one]


def _seeds() -> list[SeedsPart]:
    parts = [SeedsPart(f"claim2_{n}seeds", f"{n} seeds, equal configurations", n) for n in (2, 3, 5, 10)]
    for n in (2, 3, 5, 10):
        for who, number in (("rival", 1), ("baseline", 0)):
            for factor in (3, 5):
                title = f"{n} seeds, those of {'a rival' if number else 'the baseline'} vary {factor} times as much"
                name = f"claim2_{n}seeds_noisy_{who}_x{factor}"
                parts.append(SeedsPart(name, title, n, noisy=(number, float(factor)), weight=0.5))
    for n in (2, 3, 5, 10):
        for points in (1, 2):
            title = f"{n} seeds, one configuration {points} point{'s' if points > 1 else ''} better"
            parts.append(SeedsPart(f"claim2_{n}seeds_plus{points}", title, n, points, weight=0.25))
    return parts


def model_parts() -> list[ImagesPart | SeedsPart]:
    """Every row of claims 1 and 2."""
    return [*_images(), *_seeds()]
