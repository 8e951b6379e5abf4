"""BSS, batch spectral shrinkage: pushes down the smallest singular values of a batch's features.

Chen, Wang, Fu, Long, Wang, *Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
Shrinkage for Safe Transfer Learning*, NeurIPS 2019, equation 3. Shapes: B images, D features.

>>> import torch
>>> features_BD = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
>>> shrinkage(features_BD, k=1)
tensor(4.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cotuning_tune.data import Batch
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method
from cotuning_tune.models import Outputs, TransferModel


def _smallest_vectors(wide: Tensor, k: int) -> Tensor:
    """The left singular vectors of the k smallest singular values, as columns."""
    # eigh raises where an entry is not finite; without it the NaN reaches the sum and is reported as such.
    gram = torch.nan_to_num(wide @ wide.T, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.linalg.eigh(gram).eigenvectors[:, :k]


def shrinkage(features_BD: Tensor, k: int) -> Tensor:
    """Sum of the k smallest squared singular values of ``features_BD``; all of them where k > min(B, D).

    No singular value decomposition of B x D: the left (or right) singular vectors of the smallest
    values are eigenvectors U of the smaller Gram matrix, the sum is ``|U^T F|^2``, and with U held
    fixed its gradient ``2 U U^T F`` is the exact one.
    """
    if k < 1:
        raise ValueError(f"k = {k}: at least one singular value is needed")
    wide = features_BD if features_BD.shape[0] <= features_BD.shape[1] else features_BD.T
    kept = wide if wide.dtype == torch.float64 else wide.float()
    with torch.autocast(wide.device.type, enabled=False):
        vectors = _smallest_vectors(kept.detach().double(), k).to(kept.dtype)
        return (vectors.T @ kept).square().sum()


class BatchSpectralShrinkage(Method):
    """Adds ``weight * shrinkage(features, k)``."""

    source = "Chen et al., NeurIPS 2019"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(1e-3, Range(1e-5, 1.0, log=True), neutral=0.0, doc="eta of the paper")
        k: int = hyper(1, doc="how many singular values")

        def __post_init__(self) -> None:
            at_least(self, "methods.bss", weight=0, k=1)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        return {"shrinkage": self.config.weight * shrinkage(outputs.features, self.config.k)}
