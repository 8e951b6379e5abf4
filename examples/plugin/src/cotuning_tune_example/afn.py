"""AFN, hard adaptive feature norm: draws the mean norm of the features to a large radius.

Xu, Li, Yang, Lin, *Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain
Adaptation*, ICCV 2019; the hard variant, with the published radius and weight, on the target images alone.

Shapes: B images, D features.

>>> import torch
>>> distance_to_radius(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), radius=5.0)
tensor(4.)
"""

from dataclasses import dataclass

from torch import Tensor

from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods import Batch, Method
from cotuning_tune.models import Outputs, TransferModel


def distance_to_radius(features_BD: Tensor, radius: float) -> Tensor:
    """``(mean of ||f|| - radius)^2``."""
    return (features_BD.norm(dim=1).mean() - radius).square()


class AdaptiveFeatureNorm(Method):
    """Adds ``weight * (mean of ||f|| - radius)^2``."""

    source = "Xu et al., ICCV 2019"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(0.05, Range(1e-4, 0.5, log=True), neutral=0.0, doc="lambda of the paper")
        radius: float = hyper(25.0, doc="R of the paper, that the mean norm is drawn to")

        def __post_init__(self) -> None:
            at_least(self, "methods.afn", weight=0, radius=0)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        return {"radius": self.config.weight * distance_to_radius(outputs.features, self.config.radius)}
