"""BitFit: of the backbone the biases alone are trained, normalisation's included.

Ben Zaken, Goldberg, Ravfogel, *BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models*, ACL 2022.

>>> is_bias("chain.0.norm.bias"), is_bias("chain.0.norm.weight"), is_bias("encoder.in_proj_bias")
(True, False, True)
"""

from dataclasses import dataclass
from typing import Any

from cotuning_tune.data import Task
from cotuning_tune.methods._base import Method
from cotuning_tune.models import Pretrained, TransferModel


def is_bias(name: str) -> bool:
    """Whether a parameter of that name is a bias."""
    return name.endswith("bias")


class BitFit(Method):
    """Every other weight of the backbone stays as it was."""

    source = "Ben Zaken et al., ACL 2022"
    variant = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        for name, parameter in model.backbone.named_parameters():
            parameter.requires_grad_(is_bias(name))

    def check(self, source: Pretrained) -> None:
        """Refuses a backbone without a bias."""
        names = (name for name, _ in source.backbone.named_parameters())
        self.refuse_without(any(map(is_bias, names)), f"trains biases, and {source.name} has none")
