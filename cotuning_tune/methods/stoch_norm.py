"""StochNorm: in training each channel is normalised by the batch's statistics or by the moving ones, at random.

Kou, You, Long, Wang, *Stochastic Normalization*, NeurIPS 2020, equations 4 to 6.
Shapes: B images, C channels, H x W a map.

>>> import torch
>>> layer = StochNorm(torch.nn.BatchNorm2d(2), probability=0.0, draws=Draws())
>>> layer(torch.full((4, 2, 1, 1), 3.0)).flatten()[0]
tensor(3.0000, grad_fn=<SelectBackward0>)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from cotuning_tune.data import Task
from cotuning_tune.hyper import Range, hyper, shares
from cotuning_tune.methods._base import Draws, Method
from cotuning_tune.models import Pretrained, TransferModel

BATCH_NORM = nn.modules.batchnorm._BatchNorm
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class StochNorm(BATCH_NORM):  # type: ignore[misc, valid-type]
    """Takes the place of a BatchNorm layer, with its weights and statistics; in evaluation it is the same."""

    def __init__(self, layer: nn.Module, probability: float, draws: Draws) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)
        self.probability, self.draws = probability, draws

    def _check_input_dim(self, input: Tensor) -> None:
        """Whatever the layer took whose place this one has."""

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """With probability p a channel takes the batch's mean and variance; both keep moving in any case."""
        if not self.training or self.probability == 1:
            return super().forward(maps_BCHW)
        assert self.running_mean is not None
        assert self.running_var is not None
        moving = (self.running_mean.clone(), self.running_var.clone())
        by_batch_BCHW = super().forward(maps_BCHW)
        by_moving_BCHW = batch_norm(maps_BCHW, *moving, self.weight, self.bias, training=False, eps=self.eps)
        chosen_C = (self.draws.uniform(self.num_features) < self.probability).to(maps_BCHW.device)
        return torch.where(chosen_C.view(1, -1, *[1] * (maps_BCHW.ndim - 2)), by_batch_BCHW, by_moving_BCHW)


def replace_norms(network: nn.Module, probability: float, draws: Draws) -> int:
    """Put StochNorm in the place of every BatchNorm below a module; how many there were."""
    count = 0
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) in PLAIN:
                setattr(parent, name, StochNorm(child, probability, draws))
                count += 1
    return count


class StochasticNormalization(Method):
    """Adds no term: the backbone's normalisation is another one while it trains."""

    source = "Kou et al., NeurIPS 2020"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        probability: float = hyper(0.5, Range(0.05, 1.0), neutral=1.0, doc="of the batch's statistics, p of the paper")

        def __post_init__(self) -> None:
            shares(self, "methods.stoch_norm", "probability")

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        replace_norms(model.backbone, config.probability, self.draws)

    def check(self, source: Pretrained) -> None:
        """Refuses a backbone without BatchNorm, or with one that does more."""
        kinds = {type(module) for module in source.backbone.modules() if isinstance(module, BATCH_NORM)}
        self.refuse_without(bool(kinds), f"replaces BatchNorm, and {source.name} has none")
        others = sorted(kind.__name__ for kind in kinds.difference(PLAIN))
        self.refuse_without(not others, f"replaces BatchNorm, and {source.name} has {', '.join(others)}")
