"""Transforms: the published ones, to the pixel or, where they are random, in distribution."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from cotuning_tune.data._transforms import ASPECT, augment, centre_crop, crop_box

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


@pytest.mark.parametrize(("side", "smallest"), [(256, 0.08), (40, 0.3), (7, 0.08)])
def test_boxes_lie_inside(side: int, smallest: float) -> None:
    """Every crop lies inside of the image."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        top, left, height, width = crop_box(side, smallest, generator)
        assert min(top, left) >= 0
        assert min(height, width) >= 1
        assert max(top + height, left + width) <= side


@pytest.mark.parametrize(("side", "smallest"), [(256, 0.08), (72, 0.5), (32, 0.9)])
def test_boxes_are_distributed_as_torchvision_draws_them(side: int, smallest: float) -> None:
    """Means and spreads of the boxes are those of torchvision's RandomResizedCrop."""
    ours, theirs = torch.Generator().manual_seed(1), torch.zeros(1, side, side)
    torch.manual_seed(2)
    own = torch.tensor([crop_box(side, smallest, ours) for _ in range(DRAWS)], dtype=torch.float64)
    published = torch.tensor(
        [RandomResizedCrop.get_params(theirs, [smallest, 1.0], list(ASPECT)) for _ in range(DRAWS)],
        dtype=torch.float64,
    )
    spread = published.std(0)
    tolerance = 5 * spread * (2 / DRAWS) ** 0.5
    for moment in (lambda x: x.mean(0), lambda x: x.std(0)):
        assert ((moment(own) - moment(published)).abs() <= tolerance).all()
    shares = [(box[:, 2] * box[:, 3] / side**2) for box in (own, published)]
    assert abs(shares[0].mean() - shares[1].mean()) <= 5 * shares[1].std() * (2 / DRAWS) ** 0.5
    whole = [(box[:, 2:] == side).all(1).double().mean() for box in (own, published)]
    assert abs(whole[0] - whole[1]) < 0.03


def test_corners_are_reached() -> None:
    """Crops reach each edge of the image: the last row and column are not left out."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([crop_box(16, 0.2, generator) for _ in range(500)])
    assert boxes[:, :2].min(0).values.tolist() == [0, 0]
    assert (boxes[:, :2] + boxes[:, 2:]).max(0).values.tolist() == [16, 16]


def test_an_impossible_crop_is_the_whole_image() -> None:
    """Where no drawn shape fits, the whole image is taken."""
    generator = torch.Generator().manual_seed(0)
    boxes = {crop_box(1, 1.0, generator) for _ in range(50)}
    assert boxes == {(0, 0, 1, 1)}
    tight = [crop_box(50, 1.0, generator) for _ in range(200)]
    assert (0, 0, 50, 50) in tight


def test_crops_are_torchvisions() -> None:
    """An augmented image is torchvision's resized crop of the drawn box, to the pixel."""
    stored = images(6, 40)
    ours, boxes = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    augmented = augment(stored, 24, smallest=0.2, flip=False, generator=ours)
    for image, result in zip(stored, augmented, strict=True):
        expected = F.resized_crop(image, *crop_box(40, 0.2, boxes), [24, 24], antialias=True)
        assert torch.equal(result, expected)
    assert augmented.dtype == torch.uint8


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
    stored = images(1, 16).expand(20, -1, -1, -1)
    augmented = augment(stored, 8, smallest=0.2, flip=True, generator=torch.Generator().manual_seed(0))
    assert len(torch.unique(augmented.flatten(1), dim=0)) == 20


def test_stored_images_are_not_changed() -> None:
    """Augmenting leaves the stored images as they are."""
    stored = images(4, 12)
    before = stored.clone()
    augment(stored, 8, smallest=0.3, flip=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stored, before)
