"""Label smoothing of the source head: the control for co-tuning, with a target that knows nothing.

The same shape of loss as You et al., NeurIPS 2020, equation 2, with the uniform distribution over the source classes in
the place of the relationship: what it gains does not come from knowing classes (Szegedy et al., CVPR 2016, section 7).
Shapes: B images, S source classes.

>>> import torch
>>> uniform_cross_entropy(torch.zeros(1, 4))
tensor(1.3863)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cotuning_tune.data import Batch
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method
from cotuning_tune.models import Outputs, TransferModel


def uniform_cross_entropy(logits_BS: Tensor) -> Tensor:
    """Mean over images of ``-1/S sum_s log_softmax(logits)_s``."""
    return -torch.log_softmax(logits_BS, dim=1).mean()


class LabelSmoothing(Method):
    """Adds ``weight * uniform_cross_entropy`` of the source head, which is trained."""

    source = "Szegedy et al., CVPR 2016"
    uses_source_head = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(2.3, Range(1e-3, 5.0, log=True), neutral=0.0, doc="co-tuning's, for the comparison")

        def __post_init__(self) -> None:
            at_least(self, "methods.label_smoothing", weight=0)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        return {"uniform": self.config.weight * uniform_cross_entropy(model.source_head(outputs.features))}
