"""Augmentation beyond crops and flips: of each image, and of pairs of images with their labels.

Everything is drawn from seed and step alone. Shapes: B images, C x C pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from cotuning_tune.base import seeding

GREY = 127  # under erased parts: about the mean of natural images
AUGMENTS = {"trivialaugment": v2.TrivialAugmentWide, "randaugment": v2.RandAugment}


def augment(images_B3CC: Tensor, kind: str, erasing: float, *seed: object) -> Tensor:
    """Each uint8 image by draws of its own: ``trivialaugment`` (Mueller & Hutter, ICCV 2021), ``randaugment`` (Cubuk et
    al., 2020) or ``none``; then, with probability ``erasing``, a part made grey (Zhong et al., AAAI 2020)."""
    steps: list[nn.Module] = [] if kind == "none" else [AUGMENTS[kind]()]
    steps += [v2.RandomErasing(erasing, value=GREY)] if erasing else []
    if not steps:
        return images_B3CC
    whole = v2.Compose(steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.derive_seed(*seed))
        return torch.stack([whole(image) for image in images_B3CC])


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images after crop and flip: the arguments of ``augment`` and ``draw_mix``."""

    kind: str = "none"
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass(frozen=True)
class Mix:
    """How each image of a batch is mixed with the one before it: ``share`` is its own part, from 0 to 1.

    ``box``: top, bottom, left, right of what comes from the other one; None: every pixel is mixed.
    """

    share: float
    box: tuple[int, int, int, int] | None = None

    def images(self, images_B3CC: Tensor) -> Tensor:
        """The mixed images; float32 where pixels are mixed."""
        other_B3CC = images_B3CC.roll(1, 0)
        if self.box is None:
            return images_B3CC.float() * self.share + other_B3CC.float() * (1 - self.share)
        top, bottom, left, right = self.box
        mixed_B3CC = images_B3CC.clone()
        mixed_B3CC[..., top:bottom, left:right] = other_B3CC[..., top:bottom, left:right]
        return mixed_B3CC


def draw_mix(side: int, mixup: float, cutmix: float, *seed: object) -> Mix | None:
    """The mix of a batch of images of this side; None where nothing is mixed.

    ``mixup`` (Zhang et al., ICLR 2018) and ``cutmix`` (Yun et al., ICCV 2019) are the two parameters of the symmetric
    Beta distribution that the share is drawn from, 0: off; where both are on, each batch takes one of them.
    """
    if not (mixup or cutmix):
        return None
    draws = np.random.default_rng(seeding.derive_seed(*seed))
    cuts = bool(cutmix) and (not mixup or draws.random() < 0.5)
    alpha = cutmix if cuts else mixup
    share = float(draws.beta(alpha, alpha))
    if not cuts:
        return Mix(share)
    half = side * (1 - share) ** 0.5 / 2
    (top, bottom), (left, right) = (
        np.clip(np.round([centre - half, centre + half]), 0, side).astype(int).tolist()
        for centre in draws.random(2) * side
    )
    return Mix(1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))
