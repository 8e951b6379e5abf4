"""Co-tuning: the source head is kept and trained on what the source classes say of each target class.

You, Kou, Long, Wang, *Co-Tuning for Transfer Learning*, NeurIPS 2020, equation 2 and Algorithm 1.
Shapes: B images, S source classes, T target classes.

>>> import torch
>>> soft_cross_entropy(torch.zeros(1, 4), torch.full((1, 4), 0.25))
tensor(1.3863)
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Batch, Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method, Preparation
from cotuning_tune.models import Outputs, Pretrained, TransferModel, source_class_names
from cotuning_tune.relationship import learn_relationship

log = logging.getLogger(__name__)
VERSION = "relationship 4"
SHOWN = 5  # source classes of each target class in the summary


def soft_cross_entropy(logits_BS: Tensor, target_BS: Tensor) -> Tensor:
    """Mean over images of ``-sum_s target_s * log_softmax(logits)_s``."""
    return -(target_BS * torch.log_softmax(logits_BS, dim=1)).sum(dim=1).mean()


class CoTuning(Method):
    """Adds ``weight * CE_soft(source_head(features), p(source class | target class))``."""

    source = "You et al., NeurIPS 2020"
    uses_source_head = True
    reads_labels = True
    relationship_TS: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(2.3, Range(1e-3, 5.0, log=True), neutral=0.0, doc="lambda of the paper")
        approach: Literal["reverse", "direct"] = hyper(
            "reverse", doc="of the relationship; direct reads the labels of the validation split"
        )
        temperature: float = hyper(0.0, doc="calibration of the source head; 0: fitted or published, else 1")
        calibrated: bool = hyper(True, doc="false, an ablation: no temperature, and no scale of the relationship")
        source_marginal: Literal["images", "uniform"] = hyper(
            "images", doc="p(source class) of the reverse approach: mean over the images, or the same for all"
        )

        def __post_init__(self) -> None:
            at_least(self, "methods.co_tuning", weight=0, temperature=0)
            if self.temperature and not self.calibrated:
                problem = "methods.co_tuning.temperature counts with methods.co_tuning.calibrated = true alone"
                raise UserError(problem, "methods.co_tuning.temperature")

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        shape = (task.num_classes, model.source_head.out_features)
        self.register_buffer("relationship_TS", torch.full(shape, 1.0 / shape[1]))

    def check(self, source: Pretrained) -> None:
        """Refuses a head that was not trained with its backbone; warns where no temperature is known."""
        self.refuse_foreign_head(source)
        needed = self.config.calibrated and not self.config.temperature
        if needed and source.temperature is None and not source.is_random:
            log.warning("co_tuning: no calibration temperature is known for %s, 1 is taken", source.name)

    def setup(self, preparation: Preparation) -> None:
        """Learn the relationship, or take it from the cache; shared by all trials of the task.

        With ``approach = "direct"`` from the labels of the validation split too, see ``learn_relationship``.
        """
        source, task, config = preparation.source, preparation.task, self.config
        temperature = (config.temperature or source.temperature or 1.0) if config.calibrated else 1.0
        options = {name: getattr(config, name) for name in ("approach", "calibrated", "source_marginal")}

        def compute() -> dict[str, np.ndarray]:
            learned = learn_relationship(
                preparation.source_logits(task.train),
                task.train.labels_N,
                preparation.source_logits(task.val),
                task.val.labels_N,
                num_classes=task.num_classes,
                temperature=temperature,
                **options,
            )
            return {"matrix_TS": learned.matrix_TS.numpy()}

        key = content_key(VERSION, task.fingerprint(), source.fingerprint, temperature, options)
        matrix_TS = torch.from_numpy(cached_arrays("relationship", key, compute)["matrix_TS"])
        self.relationship_TS.copy_(matrix_TS)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        logits_BS = model.source_head(outputs.features)
        loss = soft_cross_entropy(logits_BS, self.relationship_TS[batch.labels])
        return {"co_tuning": self.config.weight * loss}

    def summary(self, task: Task) -> dict[str, Any]:
        """The likeliest source classes of each target class."""
        names = source_class_names(self.relationship_TS.shape[1])
        found = self.relationship_TS.topk(min(SHOWN, len(names)), dim=1)
        related = [
            {"target": target, "source": [{"name": names[s], "probability": p} for s, p in zip(*row, strict=True)]}
            for target, *row in zip(task.class_names, found.indices.tolist(), found.values.tolist(), strict=True)
        ]
        return {"related": related}
