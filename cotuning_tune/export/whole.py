"""A classifier with its preprocessing inside: images of any size to logits.

The resizing is Pillow's bilinear one (antialiased), columns before rows, to one grey level: Pillow of some versions
begins with the rows, and weighs in whole numbers.
Shapes: B images of H x W pixels, S the side they are resized to, C the side the network sees, T target classes.
"""

import torch
from torch import Tensor, nn


class Whole(nn.Module):
    """Resizes, cuts out the middle, and hands on: uint8 [B, H, W, 3] to logits [B, T]."""

    def __init__(self, network: nn.Module, resize: int, crop: int) -> None:
        super().__init__()
        self.network, self.resize, self.crop = network, resize, crop

    def forward(self, images_BHW3: Tensor) -> Tensor:
        crops_B3CC = self.crops(images_BHW3)
        logits_BT: Tensor = self.network(crops_B3CC)
        return logits_BT

    def crops(self, images_BHW3: Tensor) -> Tensor:
        """Grey levels float32 [B, 3, C, C], whole numbers."""
        image_B3HW = images_BHW3.permute(0, 3, 1, 2).float()
        narrow_B3HS = (image_B3HW @ self._weights(image_B3HW.shape[3]).T + 0.5).floor()
        stored_B3SS = (self._weights(image_B3HW.shape[2]) @ narrow_B3HS + 0.5).floor()
        start = round((self.resize - self.crop) / 2)
        return stored_B3SS[:, :, start : start + self.crop, start : start + self.crop]

    def _weights(self, length: int) -> Tensor:
        """Of each of S new pixels in ``length`` old ones: a triangle as wide as one of the coarser."""
        scale = length / self.resize
        width: float = torch.sym_max(scale, 1.0)  # type: ignore[assignment]
        new_S, old_L = (torch.arange(self.resize) + 0.5) * scale, torch.arange(length) + 0.5
        weights_SL = (1 - (old_L[None] - new_S[:, None]).abs() / width).clamp(min=0.0)
        return weights_SL / weights_SL.sum(1, keepdim=True)
