"""A CNN of 30,000 weights, all of them random: for tests, where no real network is needed."""

import torch
from torch import nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.models._transfer_model import Backbone, Pretrained

SOURCE_CLASSES = 12


def names() -> list[str]:
    return ["tiny_cnn"]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def build(name: str, weights: str) -> Pretrained:
    """The same weights every time, drawn from a fixed seed."""
    if weights not in ("", "random"):
        raise UserError("tiny_cnn has no weights to read: omit weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        chain = [_stage(3, 16), _stage(16, 32), _stage(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        backbone = Backbone(
            chain,
            taps={"stage1": "0.0", "stage2": "1.0", "stage3": "2.0"},
            mean=[127.5] * 3,
            std=[64.0] * 3,
        )
        head = nn.Linear(64, SOURCE_CLASSES)
    nn.init.normal_(head.weight, 0.0, 0.5, generator=torch.Generator().manual_seed(21))
    return Pretrained(name, backbone, head, temperature=1.0, head_is_trained=False, is_random=True)
