"""Gradual unfreezing: the new head first, then the backbone's layers one after the other, the last one first.

Howard, Ruder, *Universal Language Model Fine-tuning for Text Classification* (ULMFiT), ACL 2018, section 3.3. There a
layer is released each epoch; here layers are released at equal distances over a share of the steps.

>>> from cotuning_tune.hyper import fields_of
>>> list(fields_of(GradualUnfreezing.Config))
['share']
"""

from dataclasses import dataclass
from typing import Any

from cotuning_tune.data import Task
from cotuning_tune.hyper import Range, hyper, shares
from cotuning_tune.methods._base import Method
from cotuning_tune.models import TransferModel


def released(layers: int, done: float) -> int:
    """How many of the layers have been released when that share (0 to 1) of the unfreezing is done.

    >>> [released(3, step / 6) for step in range(7)]
    [0, 0, 1, 1, 2, 2, 3]
    """
    return min(layers, int(layers * done + 1e-9))  # 3 * (1 / 3) may fall short of 1


class GradualUnfreezing(Method):
    """All layers are released when the first ``share`` of the steps is done."""

    source = "Howard & Ruder, ACL 2018"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        share: float = hyper(0.5, Range(0.0, 0.95), neutral=0.0, doc="of the steps, until all layers are released")

        def __post_init__(self) -> None:
            shares(self, "methods.gradual_unfreezing", "share", whole=False)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.layers = len(model.backbone.layers)

    def still(self, done: float) -> float:
        if done >= self.config.share:
            return 0.0
        return 1 - released(self.layers, done / self.config.share) / self.layers
