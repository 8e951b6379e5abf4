"""Transforms: the published ones, to the pixel or, where they are random, in distribution."""

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import RandomResizedCrop, TenCrop
from torchvision.transforms.v2 import functional as F

from cotuning_tune.data.images._transforms import (
    ASPECT,
    Cuts,
    augment,
    centre_crop,
    cut_batch,
    cut_each,
    draw_boxes,
    draw_cuts,
    ten_crops,
)

DRAWS = 4000


def images(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("side", "size", "first"), [(256, 224, 16), (72, 64, 4), (8, 8, 0), (9, 8, 0), (11, 8, 2), (10, 8, 1)]
)
def test_centre_crop(side: int, size: int, first: int) -> None:
    """The centre crop starts at half the difference, halves rounded to even as torchvision does."""
    stored = images(2, side)
    end = first + size
    assert torch.equal(centre_crop(stored, size), stored[:, :, first:end, first:end])


def test_corners_of_the_centre_crop() -> None:
    """A single marked pixel of the middle is where it belongs: no crop is off by one."""
    stored = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    stored[:, :, 16, 239] = 255
    cropped = centre_crop(stored, 224)
    assert torch.nonzero(cropped[0, 0]).tolist() == [[0, 223]]


def coordinates(side: int) -> Tensor:
    """An image whose red is the row and whose green is the column of each pixel."""
    lines = torch.arange(side, dtype=torch.uint8)
    return torch.stack([lines[:, None].expand(side, side), lines.expand(side, side), torch.zeros(side, side).byte()])


def test_ten_crops_to_the_pixel() -> None:
    """Corner crops begin at row or column 0 or end at the last; the second five are mirrored left to right."""
    found = [view[0] for view in ten_crops(coordinates(256)[None], 224)]
    corners = [(int(view[0, 0, 0]), int(view[1, 0, 0]), int(view[0, -1, -1]), int(view[1, -1, -1])) for view in found]
    plain = [(0, 0, 223, 223), (0, 32, 223, 255), (32, 0, 255, 223), (32, 32, 255, 255), (16, 16, 239, 239)]
    flipped = [(top, 255 - left, bottom, 255 - right) for top, left, bottom, right in plain]
    assert corners[:5] == plain
    assert sorted(corners[5:]) == sorted(flipped)
    assert all(view.shape == (3, 224, 224) for view in found)


@pytest.mark.parametrize(("side", "size"), [(256, 224), (72, 64), (9, 8), (8, 8)])
def test_ten_crops_are_torchvisions(side: int, size: int) -> None:
    """Each of the ten crops of a batch is torchvision's TenCrop of its image."""
    stored = images(2, side)
    ours = torch.stack(ten_crops(stored, size))
    for number in range(2):
        assert torch.equal(ours[:, number], torch.stack(TenCrop(size)(stored[number])))


@pytest.mark.parametrize(("side", "smallest"), [(256, 0.08), (40, 0.3), (7, 0.08)])
def test_boxes_lie_inside(side: int, smallest: float) -> None:
    """Every crop lies inside of the image."""
    boxes = draw_boxes(2000, side, smallest, torch.Generator().manual_seed(0))
    assert boxes[:, :2].min() >= 0
    assert boxes[:, 2:].min() >= 1
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= side


@pytest.mark.parametrize(("side", "smallest"), [(256, 0.08), (72, 0.5), (32, 0.9)])
def test_boxes_are_distributed_as_torchvision_draws_them(side: int, smallest: float) -> None:
    """Area, aspect, top and left are distributed as those of torchvision's RandomResizedCrop (Kolmogorov-Smirnov)."""
    torch.manual_seed(2)
    ours = draw_boxes(DRAWS, side, smallest, torch.Generator().manual_seed(1)).double()
    image = torch.zeros(1, side, side)
    drawn = [RandomResizedCrop.get_params(image, [smallest, 1.0], list(ASPECT)) for _ in range(DRAWS)]
    theirs = torch.tensor(drawn, dtype=torch.float64)
    seen = [(b[:, 2] * b[:, 3], b[:, 3] / b[:, 2], b[:, 0], b[:, 1]) for b in (ours, theirs)]
    assert min(ks_2samp(one, other, method="asymp").pvalue for one, other in zip(*seen, strict=True)) > 0.01
    whole = [(box[:, 2:] == side).all(1).double().mean() for box in (ours, theirs)]
    assert abs(whole[0] - whole[1]) < 0.03


def test_corners_are_reached() -> None:
    """Crops reach each edge of the image: the last row and column are not left out."""
    boxes = draw_boxes(500, 16, 0.2, torch.Generator().manual_seed(0))
    assert boxes[:, :2].min(0).values.tolist() == [0, 0]
    assert (boxes[:, :2] + boxes[:, 2:]).max(0).values.tolist() == [16, 16]


def test_an_impossible_crop_is_the_whole_image() -> None:
    """Where none of ten shapes fits, the whole image is taken."""
    generator = torch.Generator().manual_seed(0)
    assert draw_boxes(50, 1, 1.0, generator).unique(dim=0).tolist() == [[0, 0, 1, 1]]
    assert [0, 0, 50, 50] in draw_boxes(200, 50, 1.0, generator).tolist()


def test_crops_are_torchvisions() -> None:
    """An augmented image is torchvision's resized crop of the drawn box, to the pixel."""
    stored = images(6, 40)
    ours, boxes = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    augmented = augment(stored, 24, smallest=0.2, flip=False, generator=ours)
    for image, result, box in zip(stored, augmented, draw_boxes(6, 40, 0.2, boxes).tolist(), strict=True):
        assert torch.equal(result, F.resized_crop(image, *box, [24, 24], antialias=True))
    assert augmented.dtype == torch.uint8


@pytest.mark.parametrize(("side", "size"), [(256, 224), (72, 64), (20, 16), (9, 9)])
def test_cutting_a_batch_is_cutting_each(side: int, size: int) -> None:
    """The batched matrix products of a GPU give each image of the CPU's kernel to one grey level."""
    stored = images(12, side)
    stored[0] = 255  # a sum of weights above 1 would run over
    cuts = draw_cuts(12, side, 0.08, True, torch.Generator().manual_seed(1))
    edges = torch.tensor([[0, 0, side, side], [0, 0, 1, 1], [side - 1, side - 2, 1, 2]])
    cuts = Cuts(torch.cat([edges, cuts.boxes_B4[3:]]), cuts.mirrored_B)
    one, other = cut_each(stored, cuts, size), cut_batch(stored, cuts, size)
    assert one.dtype == other.dtype == torch.uint8
    assert (one.int() - other.int()).abs().max() <= 1
    assert cuts.mirrored_B.any()


def test_the_number_of_draws_is_fixed() -> None:
    """Which tries fit does not shift later draws: the next batch of a generator is the same for any crop size."""
    after = []
    for smallest in (0.08, 1.0):
        generator = torch.Generator().manual_seed(7)
        draw_boxes(5, 30, smallest, generator)
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(*after)


def test_half_are_mirrored() -> None:
    """With ``flip`` about half of the images are mirrored left to right, the others are not."""
    stored = torch.zeros(2000, 3, 4, 4, dtype=torch.uint8)
    stored[:, :, :, 2:] = 255
    augmented = augment(stored, 4, smallest=1.0, flip=True, generator=torch.Generator().manual_seed(0))
    left, right = (augmented[:, :, :, half].float().mean((1, 2, 3)) for half in (slice(0, 2), slice(2, 4)))
    mirrored = left > right
    assert 0.45 < mirrored.double().mean() < 0.55


def test_without_flip_none_is_mirrored() -> None:
    """Without ``flip`` the same crops come unmirrored."""
    stored = images(50, 12)
    kept, mirrored = (
        augment(stored, 8, smallest=0.3, flip=flip, generator=torch.Generator().manual_seed(0))
        for flip in (False, True)
    )
    turned = (kept == mirrored.flip(-1)).flatten(1).all(1)
    same = (kept == mirrored).flatten(1).all(1)
    assert (turned | same).all()
    assert turned.any()
    assert same.any()


def test_images_are_cut_by_themselves() -> None:
    """Each image of a batch gets a crop of its own, also a mirroring of its own."""
    stored = images(1, 64).expand(20, -1, -1, -1)
    augmented = augment(stored, 8, smallest=0.2, flip=True, generator=torch.Generator().manual_seed(0))
    assert len(torch.unique(augmented.flatten(1), dim=0)) == 20


def test_stored_images_are_not_changed() -> None:
    """Augmenting leaves the stored images as they are."""
    stored = images(4, 12)
    before = stored.clone()
    augment(stored, 8, smallest=0.3, flip=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stored, before)
