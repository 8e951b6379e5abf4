"""Patches of four pixels and a small perceptron: a torch module of one's own, with random weights."""

from torch import nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.models import Backbone, Pretrained

SOURCE_CLASSES = 12


def names() -> list[str]:
    """The backbones of this file; further ones would be called ``tiny_patches/...``."""
    return ["tiny_patches"]


def build(name: str, weights: str) -> Pretrained:
    """Drawn from torch's generator, which stands at the same place whenever a backbone is built."""
    if weights not in ("", "random"):
        raise UserError("tiny_patches has no weights to read: omit weights")
    chain = [
        nn.Conv2d(3, 32, kernel_size=4, stride=4),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.GELU(),
    ]
    backbone = Backbone(chain, taps={"stage1": "0"}, mean=[127.5] * 3, std=[64.0] * 3)
    return Pretrained(name, backbone, nn.Linear(64, SOURCE_CLASSES), head_is_trained=False, is_random=True)
