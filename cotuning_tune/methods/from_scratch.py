"""From scratch: the same network from random weights; below it transfer is negative.

He, Girshick, Dollar, *Rethinking ImageNet Pre-training*, ICCV 2019. Weights are drawn as the layers' own rules say,
other ones for each seed.

>>> import torch
>>> layer = torch.nn.Linear(2, 2, bias=False)
>>> before = layer.weight.detach().clone()
>>> redraw(layer)
>>> bool((layer.weight == before).any())
False
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from cotuning_tune.data import Task
from cotuning_tune.methods._base import Method
from cotuning_tune.models import TransferModel

STD = 0.02  # of weights that belong to no layer, as the tokens and positions of a ViT


def redraw(network: nn.Module) -> None:
    """Draw every weight anew; normalisation forgets its statistics."""
    drawn: set[int] = set()
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
            drawn.update(map(id, module.parameters(recurse=False)))
    for parameter in network.parameters():
        if id(parameter) not in drawn:
            nn.init.trunc_normal_(parameter, std=STD)


class FromScratch(Method):
    """Plain training; nothing of the pre-trained weights is left but the normalisation of the images."""

    source = "He et al., ICCV 2019"
    variant = True
    alone = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        redraw(model.backbone)
