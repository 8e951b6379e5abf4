"""Published transforms on stored images: random resized crop and flip to train, centre crop to test.

Shapes: B images of a batch, S the stored side, C the side the network sees. All stay uint8.
"""

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

ASPECT = (3 / 4, 4 / 3)


def centre_crop(images_B3SS: Tensor, size: int) -> Tensor:
    """The middle C x C of each image, as torchvision's CenterCrop places it; [B, 3, C, C]."""
    return F.center_crop(images_B3SS, [size, size])


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))


def crop_box(side: int, smallest: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random part: area share uniform in [smallest, 1], aspect 3/4 to 4/3.

    The rule of torchvision's RandomResizedCrop (Szegedy et al. 2015), drawn from ``generator`` alone.
    """
    for _ in range(10):
        area = side * side * _uniform(smallest, 1.0, generator)
        ratio = math.exp(_uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), generator))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            top, left = _below(side - height + 1, generator), _below(side - width + 1, generator)
            return top, left, height, width
    return 0, 0, side, side


def augment(images_B3SS: Tensor, size: int, *, smallest: float, flip: bool, generator: torch.Generator) -> Tensor:
    """A random resized crop of each image, mirrored half the time; [B, 3, C, C]."""
    crops = []
    for image_3SS in images_B3SS:
        top, left, height, width = crop_box(image_3SS.shape[-1], smallest, generator)
        crops.append(F.resized_crop(image_3SS, top, left, height, width, [size, size], antialias=True))
    batch = torch.stack(crops)
    if flip:
        mirrored = torch.rand(len(batch), generator=generator) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
    return batch
