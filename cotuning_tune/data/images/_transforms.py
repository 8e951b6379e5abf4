"""Published transforms on stored images: random resized crop and flip to train, centre or ten crops to test.

Boxes are drawn on the CPU for a whole batch. The CPU then cuts image by image with torchvision's uint8 kernel;
a GPU resizes the batch by two matrix products, equal to it to one grey level. (Per batch of 48 at 224 px one
core takes 15 ms for the kernel, 214 ms for the products.)
Shapes: B images of a batch, S the stored side, C the side the network sees. All images are uint8.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

ASPECT = (3 / 4, 4 / 3)
TRIES = 10
Crops = Literal["centre", "ten"]


class Cuts(NamedTuple):
    """What is cut: boxes_B4 (top, left, height, width; int64), mirrored_B bool; both on the CPU."""

    boxes_B4: Tensor
    mirrored_B: Tensor


def centre_crop(images_B3SS: Tensor, size: int) -> Tensor:
    """The middle C x C of each image, as torchvision's CenterCrop places it; [B, 3, C, C]."""
    return F.center_crop(images_B3SS, [size, size])


def ten_crops(images_B3SS: Tensor, size: int) -> tuple[Tensor, ...]:
    """Four corners and the centre of each image, then the same of the mirrored one; ten times [B, 3, C, C]."""
    return tuple(F.ten_crop(images_B3SS, [size, size]))


def draw_boxes(count: int, side: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Random parts [B, 4] (top, left, height, width): area share uniform in [smallest, 1], aspect 3/4 to 4/3.

    The rule of torchvision's RandomResizedCrop (Szegedy et al. 2015): the first of ten tries that fits, else
    the whole image. Drawn from ``generator`` (CPU) alone, the same number of draws whatever fits.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    area_BT = side * side * (smallest + (1 - smallest) * uniform(TRIES))
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    ratio_BT = torch.exp(low + (high - low) * uniform(TRIES))
    shape_BT2 = torch.stack([(area_BT / ratio_BT).sqrt(), (area_BT * ratio_BT).sqrt()], dim=2).round()
    fits_BT = ((shape_BT2 > 0) & (shape_BT2 <= side)).all(2)
    first_B = fits_BT.int().argmax(1)
    shape_B2 = torch.where(fits_BT.any(1)[:, None], shape_BT2[torch.arange(count), first_B], float(side))
    corner_B2 = (uniform(2) * (side - shape_B2 + 1)).floor()
    return torch.cat([corner_B2, shape_B2], dim=1).long()


def draw_cuts(count: int, side: int, smallest: float, flip: bool, generator: torch.Generator) -> Cuts:
    """Boxes, and with ``flip`` half of them mirrored, at random."""
    boxes_B4 = draw_boxes(count, side, smallest, generator)
    mirrored_B = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    return Cuts(boxes_B4, mirrored_B)


def cut_each(images_B3SS: Tensor, cuts: Cuts, size: int) -> Tensor:
    """Each box resized to C x C (bilinear, antialiased) by torchvision, image by image; [B, 3, C, C]."""
    pairs = zip(images_B3SS, cuts.boxes_B4.tolist(), strict=True)
    cut_B3CC = torch.stack([F.resized_crop(image, *box, [size, size], antialias=True) for image, box in pairs])
    return torch.where(cuts.mirrored_B[:, None, None, None], cut_B3CC.flip(-1), cut_B3CC)


def cut_batch(images_B3SS: Tensor, cuts: Cuts, size: int) -> Tensor:
    """As ``cut_each`` to one grey level, on any device, by two batched matrix products."""
    device, side = images_B3SS.device, images_B3SS.shape[-1]
    top_B, left_B, height_B, width_B = cuts.boxes_B4.float().to(device, non_blocking=True).unbind(1)
    rows_BCS = _resizing(top_B, height_B, size, side)
    columns_BCS = _resizing(left_B, width_B, size, side)
    mirrored_B = cuts.mirrored_B.to(device, non_blocking=True)
    columns_BCS = torch.where(mirrored_B[:, None, None], columns_BCS.flip(1), columns_BCS)
    narrow_B3SC = images_B3SS.float() @ columns_BCS.transpose(1, 2)[:, None]
    return (rows_BCS[:, None] @ narrow_B3SC).add_(0.5).clamp_(0, 255).to(torch.uint8)


def _resizing(start_B: Tensor, length_B: Tensor, size: int, side: int) -> Tensor:
    """Weights [B, C, S] of the pixels from ``start`` on for each of C new ones: triangles as wide as one of these."""
    scale_B = length_B / size
    new_C = torch.arange(size, device=start_B.device) + 0.5
    old_S = torch.arange(side, device=start_B.device) + 0.5
    centre_BC, inner_BS = scale_B[:, None] * new_C, old_S - start_B[:, None]
    distance_BCS = (inner_BS[:, None, :] - centre_BC[:, :, None]).abs() / scale_B.clamp(min=1.0)[:, None, None]
    inside_BS = (inner_BS > 0) & (inner_BS < length_B[:, None])
    weights_BCS = (1 - distance_BCS).clamp(min=0.0) * inside_BS[:, None, :]
    return weights_BCS / weights_BCS.sum(2, keepdim=True)


def augment(images_B3SS: Tensor, size: int, *, smallest: float, flip: bool, generator: torch.Generator) -> Tensor:
    """A random resized crop of each image, mirrored half the time; [B, 3, C, C] on the images' device."""
    cuts = draw_cuts(len(images_B3SS), images_B3SS.shape[-1], smallest, flip, generator)
    cut = cut_each if images_B3SS.device.type == "cpu" else cut_batch
    return cut(images_B3SS, cuts, size)
