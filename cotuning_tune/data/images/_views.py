"""What the network sees of stored images: augmented and mixed in training, crops of them in evaluation.

Shapes: B images of a batch, S the stored side, C the side that the network sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cotuning_tune.base import seeding
from cotuning_tune.data._batch import Batch
from cotuning_tune.data.images import _mixing, _transforms


@dataclass(frozen=True)
class ImageViews:
    """By a task's rules: ``size`` in pixels, ``resize`` of what is stored, ``min_scale`` the least share of the area
    that a random crop keeps.

    ``flip``: half of the training images are mirrored.
    """

    size: int
    resize: int
    min_scale: float
    flip: bool

    cropped = True

    @property
    def shape(self) -> str:
        return f"task.size = {self.size}"

    def blank(self, count: int) -> Tensor:
        return torch.zeros(count, 3, self.size, self.size, dtype=torch.uint8)

    def misfit(self, made_for: tuple[int, int]) -> str:
        if made_for == (self.resize, self.size):
            return ""
        wanted = "task.resize = {}, task.size = {}".format(*made_for)
        return f"its weights were made for {wanted}; here they are {self.resize} and {self.size}"

    def augmented(self, stored_B3SS: Tensor, generator: torch.Generator) -> Tensor:
        """Random crops of stored images, uint8 [B, 3, C, C], cut on the device where they are."""
        return _transforms.augment(stored_B3SS, self.size, smallest=self.min_scale, flip=self.flip, generator=generator)

    def crops(self, stored_B3SS: Tensor, kind: _transforms.Crops = "centre") -> tuple[Tensor, ...]:
        """The centre crop of stored images, or the ten crops; uint8 [B, 3, C, C] each."""
        if kind == "ten":
            return _transforms.ten_crops(stored_B3SS, self.size)
        return (_transforms.centre_crop(stored_B3SS, self.size),)

    def plain(self, stored_B3SS: Tensor, device: torch.device, kind: _transforms.Crops = "centre") -> list[Tensor]:
        """``crops``, as the network takes them."""
        return [_laid_out(view) for view in self.crops(_moved(stored_B3SS, device), kind)]

    def batch(
        self,
        stored_B3SS: Tensor,
        labels_B: Tensor,
        places: Sequence[int],
        augmentation: _mixing.Augmentation,
        *,
        count: int,
        seed: int,
        step: int,
        device: torch.device,
    ) -> Batch:
        """``count`` views of images of the training split, as the network takes them, with what ``augmentation`` does.

        All is drawn from seed and step alone; every view is mixed alike.
        """
        stored_B3SS, labels_B = _moved(stored_B3SS, device), labels_B.to(device)
        generator, a = seeding.generator_of(seed, "augmentation", step), augmentation
        views = [
            _mixing.augment(self.augmented(stored_B3SS, generator), a.kind, a.erasing, seed, "images", step, view)
            for view in range(count)
        ]
        index_B = torch.tensor(places, device=device)
        mix = _mixing.draw_mix(self.size, a.mixup, a.cutmix, seed, "mix", step)
        if mix is None:
            return Batch(tuple(map(_laid_out, views)), labels_B, index_B)
        mixed = tuple(_laid_out(mix.images(view)) for view in views)
        return Batch(mixed, labels_B, index_B, others=labels_B.roll(1), share=mix.share)


def _moved(stored_B3SS: Tensor, device: torch.device) -> Tensor:
    return stored_B3SS.to(device, non_blocking=True)


def _laid_out(images_B3CC: Tensor) -> Tensor:
    return images_B3CC.contiguous(memory_format=torch.channels_last)
