"""L2-SP: weight decay towards the pre-trained weights instead of towards zero.

Li, Grandvalet, Davoine, *Explicit Inductive Bias for Transfer Learning with Convolutional Networks*,
ICML 2018, equation 4. Biases and normalisation layers are left out, as in the original.

>>> import torch
>>> half_squared_distance({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([0.0, 0.0])})
tensor(12.5000)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cotuning_tune.data import Batch, Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method
from cotuning_tune.methods._start import Start
from cotuning_tune.models import Outputs, TransferModel

Tensors = Mapping[str, Tensor] | Iterable[Tensor]


class _HalfSquaredDistance(torch.autograd.Function):
    """Half the squared distance of two lists of tensors, in a handful of fused kernels."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        differences = torch._foreach_sub(tensors[:count], tensors[count:])
        ctx.save_for_backward(*differences)
        norms = torch._foreach_norm(differences, 2)
        return 0.5 * torch.stack(list(norms)).square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled = torch._foreach_mul(ctx.saved_tensors, gradients[0])
        return (None, *scaled, *(None for _ in scaled))


def half_squared_distance(parameters: Tensors, starting_point: Tensors) -> Tensor:
    """``1/2 sum ||w - w0||^2`` over two dicts with the same names, or two sequences in the same order.

    The gradient flows to ``parameters`` alone. Raises ValueError where names or counts differ.
    """
    if isinstance(parameters, Mapping) and isinstance(starting_point, Mapping):
        if parameters.keys() != starting_point.keys():
            raise ValueError(f"names differ: {sorted(parameters.keys() ^ starting_point.keys())}")
        starting_point = [starting_point[name] for name in parameters]
    now = list(parameters.values() if isinstance(parameters, Mapping) else parameters)
    then = list(starting_point.values() if isinstance(starting_point, Mapping) else starting_point)
    if len(now) != len(then) or not now:
        raise ValueError(f"{len(now)} tensors and {len(then)} starting points: equal numbers are needed")
    return _HalfSquaredDistance.apply(len(now), *now, *then)  # type: ignore[no-any-return,no-untyped-call]


def regularised(module: nn.Module) -> list[nn.Parameter]:
    """The weights of convolutions, linear and attention layers: no biases, tokens, positions or normalisation."""
    found: list[Any] = []
    for layer in module.modules():
        if isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            found.append(layer.in_proj_weight)
        elif isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            found.append(layer.weight)
    return found


class L2SP(Method):
    """Adds ``weight/2 ||w - w0||^2`` over the backbone and ``head_weight/2 ||w_head||^2``."""

    source = "Li et al., ICML 2018"
    replaces_weight_decay = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(0.01, Range(1e-4, 1.0, log=True), neutral=0.0, doc="alpha of the paper")
        head_weight: float = hyper(0.01, neutral=0.0, doc="beta of the paper, towards zero")

        def __post_init__(self) -> None:
            at_least(self, "methods.l2_sp", weight=0, head_weight=0)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.start = Start(regularised(model.backbone))

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        distance = half_squared_distance(regularised(model.backbone), self.start.buffers())
        norm = 0.5 * model.head.weight.square().sum()
        return {"distance": self.config.weight * distance, "head_norm": self.config.head_weight * norm}
