"""WiSE-FT: what is kept lies between the linear probe and the network that was tuned from it.

Wortsman, Ilharco, Kim, Li, Kornblith, Roelofs, Gontijo-Lopes, Hajishirzi, Farhadi, Namkoong, Schmidt, *Robust
fine-tuning of zero-shot models*, CVPR 2022, equation 1. The zero-shot head that theirs starts from is here a linear
probe (Kumar et al., ICLR 2022): the new head alone is trained for the first part of the steps. BatchNorm's
statistics are interpolated as weights are.

>>> from cotuning_tune.hyper import fields_of
>>> list(fields_of(WiseTuning.Config))
['alpha', 'probe']
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotuning_tune.data import Batch, Task
from cotuning_tune.hyper import Range, hyper, shares
from cotuning_tune.methods._teacher import TaughtMethod
from cotuning_tune.models import Outputs, TransferModel


class WiseTuning(TaughtMethod):
    """``(1 - alpha) * probe + alpha * tuned``, weight by weight; the teacher is the probe's backbone."""

    source = "Wortsman et al., CVPR 2022"
    tuned: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        alpha: float = hyper(0.5, Range(0.0, 1.0), neutral=1.0, doc="share of the tuned weights in what is kept")
        probe: float = hyper(0.5, Range(0.0, 0.95), neutral=0.0, doc="share of the steps for the head alone")

        def __post_init__(self) -> None:
            shares(self, "methods.wise_ft", "alpha")
            shares(self, "methods.wise_ft", "probe", whole=False)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.probe_head = copy.deepcopy(model.head).requires_grad_(False)
        self.register_buffer("tuned", torch.tensor(False))

    def still(self, done: float) -> float:
        return float(done < self.config.probe)

    @torch.no_grad()
    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        """None; the head is noted as it is before each step, up to the first that moves the backbone."""
        for noted, now in zip(self.probe_head.parameters(), model.head.parameters(), strict=True):
            noted.copy_(torch.where(self.tuned, noted, now))
        self.tuned.logical_or_(torch.tensor(model.backbone.training, device=self.tuned.device))
        return {}

    @torch.no_grad()
    def kept(self, network: TransferModel) -> TransferModel:
        if self.config.alpha == 1 or not self.tuned:
            return network
        between = copy.deepcopy(network)
        for start, end in ((self.teacher, between.backbone), (self.probe_head, between.head)):
            values = end.state_dict()
            for name, value in start.state_dict().items():
                if value.is_floating_point():
                    values[name].copy_(torch.lerp(value, values[name], self.config.alpha))
        return between
