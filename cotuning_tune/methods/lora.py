"""LoRA: the backbone's weight matrices learn by low-rank adapters alone, all else of it stays as it was.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022,
equation 3; rank and alpha as published for GPT-2. Adapted is every linear layer, query, key and value of attention
included; of a backbone with as many convolutions or more these too, as matrices of output channels by all else.
Shapes: O outputs, I inputs of a weight (of a convolution: times its kernel), R the rank.

>>> layer = nn.Linear(3, 2)
>>> adapt(layer, rank=1, alpha=2.0)
1
>>> sorted(name for name, _ in layer.named_parameters())[1:]
['parametrizations.weight.0.down_RI', 'parametrizations.weight.0.up_OR', 'parametrizations.weight.original']
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cotuning_tune.data import Task
from cotuning_tune.hyper import Choice, at_least, hyper
from cotuning_tune.methods._base import Method
from cotuning_tune.models import Pretrained, TransferModel


class LowRank(nn.Module):
    """A weight plus ``scale * up @ down``; up is 0 at first, down as a linear layer's weights are drawn."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        down_RI = torch.empty(rank, inputs)
        nn.init.kaiming_uniform_(down_RI, a=math.sqrt(5))
        self.down_RI, self.up_OR = nn.Parameter(down_RI.to(weight)), nn.Parameter(weight.new_zeros(outputs, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up_OR @ self.down_RI).view(weight.shape)


def places(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """The weights that are adapted: module and name."""
    linear: list[tuple[nn.Module, str]] = []
    convolutions: list[tuple[nn.Module, str]] = []
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            linear.append((module, "in_proj_weight"))
        elif isinstance(module, nn.Linear):
            linear.append((module, "weight"))
        elif isinstance(module, nn.Conv2d):
            convolutions.append((module, "weight"))
    return linear if len(linear) > len(convolutions) else linear + convolutions


def adapt(network: nn.Module, rank: int, alpha: float) -> int:
    """Put an adapter on each of a network's ``places``, the only weights that train from now on; how many."""
    network.requires_grad_(False)
    found = places(network)
    for module, name in found:
        parametrize.register_parametrization(module, name, LowRank(getattr(module, name), rank, alpha / rank))
    return len(found)


def merged(network: TransferModel) -> TransferModel:
    """A copy with every adapter added to its weight: a plain network again.

    ``remove_parametrizations`` would take the weights from the network too: a copy shares its modules' classes.
    """
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            names = cast(nn.ModuleDict, module.parametrizations)
            weights = {name: getattr(module, name).detach() for name in names}
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return plain


class LoRA(Method):
    """Adds no term; what is kept is the merged network."""

    source = "Hu et al., ICLR 2022"
    variant = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        rank: int = hyper(4, Choice((1, 2, 4, 8, 16)), doc="of the adapters")
        alpha: float = hyper(32.0, doc="over the rank: what the adapters' product is multiplied by")

        def __post_init__(self) -> None:
            at_least(self, "methods.lora", rank=1, alpha=0)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        adapt(model.backbone, config.rank, config.alpha)

    def check(self, source: Pretrained) -> None:
        """Refuses a backbone without a matrix."""
        fits = bool(places(source.backbone))
        self.refuse_without(fits, f"adapts linear layers or convolutions, and {source.name} has none")

    def kept(self, network: TransferModel) -> TransferModel:
        return merged(network)
