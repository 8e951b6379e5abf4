"""LwF, learning without forgetting: the source head keeps saying what the source network says.

Li & Hoiem, *Learning without Forgetting*, ECCV 2016, equations 2 and 3, as a Kullback-Leibler divergence:
the same gradient as the paper's cross-entropy. Shapes: B images, S source classes.

>>> import torch
>>> distillation(torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=3.0)
tensor(0.)
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotuning_tune.data import Batch, Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._teacher import TaughtMethod
from cotuning_tune.models import Outputs, Pretrained, TransferModel


def distillation(logits_BS: Tensor, teacher_logits_BS: Tensor, temperature: float) -> Tensor:
    """Mean over images of ``KL(softmax(teacher / t) || softmax(logits / t))``, without a factor t^2."""
    log_p_BS = torch.log_softmax(teacher_logits_BS / temperature, dim=1)
    log_q_BS = torch.log_softmax(logits_BS / temperature, dim=1)
    return (log_p_BS.exp() * (log_p_BS - log_q_BS)).sum(dim=1).mean()


class LearningWithoutForgetting(TaughtMethod):
    """Adds ``weight * distillation`` of the source head, which is trained, from the frozen source network."""

    source = "Li & Hoiem, ECCV 2016"
    uses_source_head = True
    rebuilt = ("teacher", "teacher_head")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(4.0, Range(0.02, 10.0, log=True), neutral=0.0, doc="lambda_o of the paper")
        temperature: float = hyper(3.0, doc="of the softmax, T of the paper")

        def __post_init__(self) -> None:
            at_least(self, "methods.lwf", weight=0, temperature=1e-3)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.teacher_head = copy.deepcopy(model.source_head).requires_grad_(False)

    def check(self, source: Pretrained) -> None:
        """Refuses a head that was not trained with its backbone: it has nothing to forget."""
        self.refuse_foreign_head(source)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        with torch.no_grad():
            teacher_logits_BS = self.teacher_head(self.teacher(batch.views[0])[0])
        logits_BS = model.source_head(outputs.features)
        loss = distillation(logits_BS, teacher_logits_BS, self.config.temperature)
        return {"distillation": self.config.weight * loss}
