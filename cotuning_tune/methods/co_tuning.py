"""Co-tuning: the source head is kept and trained on what the source classes say of each target class.

You, Kou, Long, Wang, *Co-Tuning for Transfer Learning*, NeurIPS 2020, equation 2 and Algorithm 1.
Shapes: B images, S source classes, T target classes.

>>> import torch
>>> soft_cross_entropy(torch.zeros(1, 4), torch.full((1, 4), 0.25))
tensor(1.3863)
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Batch, Split, Task
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


@cache
def _say_once(source: str) -> None:
    """What an unknown temperature means, once a process: a plan makes the method several times."""
    log.warning(
        "co_tuning trusts the class probabilities of %s as they are, though they may be too sure: of these weights no"
        " calibration is known (--source-val fits one; it works without)",
        source,
    )


class CoTuning(Method):
    """Adds ``weight * CE_soft(source_head(features), p(source class | target class))``."""

    source = "You et al., NeurIPS 2020"
    uses_source_head = True
    reads_labels = True
    relationship_TS: Tensor
    related_T: Tensor

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
        self.names = model.source_names or source_class_names(shape[1])
        self.rows = task.source_rows
        related = [row >= 0 for row in self.rows] if self.rows else []
        self.register_buffer("related_T", torch.tensor(related), persistent=False)

    def check(self, source: Pretrained) -> None:
        """Refuses a head that was not trained with its backbone; warns where no temperature is known."""
        self.refuse_foreign_head(source)
        needed = self.config.calibrated and not self.config.temperature
        if needed and source.temperature is None and not source.is_random:
            _say_once(source.name)

    def setup(self, preparation: Preparation) -> None:
        """Learn the relationship, or take it from the cache; shared by all trials of the task.

        With ``approach = "direct"`` from the labels of the validation split too, see ``learn_relationship``.
        """
        source, task, config = preparation.source, preparation.task, self.config
        temperature = (config.temperature or source.temperature or 1.0) if config.calibrated else 1.0
        options = {name: getattr(config, name) for name in ("approach", "calibrated", "source_marginal")}

        def compute() -> dict[str, np.ndarray]:
            if self.rows is not None and config.approach == "direct":
                return {"matrix_TS": self._of_types(preparation, temperature).numpy()}
            (train_NS, labels_N), (val_MS, labels_M) = (self._logits(preparation, s) for s in (task.train, task.val))
            count = 1 + max(self.rows) if self.rows else task.num_classes
            learned = learn_relationship(
                train_NS, labels_N, val_MS, labels_M, num_classes=count, temperature=temperature, **options
            )
            return {"matrix_TS": learned.matrix_TS.numpy()}

        key = content_key(VERSION, task.fingerprint(), source.fingerprint, temperature, options)
        matrix_TS = torch.from_numpy(cached_arrays("relationship", key, compute)["matrix_TS"])
        self.relationship_TS.copy_(matrix_TS[[max(row, 0) for row in self.rows]] if self.rows else matrix_TS)

    def _logits(self, preparation: Preparation, split: Split) -> tuple[Tensor, Tensor]:
        """Source logits and rows of a split's targets; without those of classes that have no row."""
        logits_NS, labels_N = preparation.source_logits(split), split.labels_N
        if self.rows is None:
            return logits_NS, labels_N
        rows_N = torch.tensor(self.rows)[labels_N]
        return logits_NS[rows_N >= 0], rows_N[rows_N >= 0]

    @torch.no_grad()
    def _of_types(self, preparation: Preparation, temperature: float) -> Tensor:
        """Mean source probabilities of the training targets of each row, added up batch by batch: S may be a
        vocabulary. A row without targets has the mean of all."""
        rows_T = torch.tensor(self.rows, device=preparation.device)
        backbone, head = preparation.source_copy()
        sums_KS = torch.zeros(1 + int(rows_T.max()), head.out_features, dtype=torch.float64)
        counts_K = torch.zeros(len(sums_KS), dtype=torch.float64)
        for view, labels_M in preparation.batches(preparation.task.train):
            rows_M = rows_T[labels_M]
            features_MD, rows_M = backbone(view)[0][rows_M >= 0], rows_M[rows_M >= 0].cpu()
            told_MS = torch.softmax(head(features_MD).double() / temperature, dim=1).cpu()
            sums_KS.index_add_(0, rows_M, told_MS)
            counts_K += torch.bincount(rows_M, minlength=len(counts_K))
        mean_S = sums_KS.sum(0) / counts_K.sum()
        return torch.where(counts_K[:, None] > 0, sums_KS / counts_K[:, None].clamp(min=1), mean_S).float()

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        features_BD, labels_B = outputs.features, batch.labels
        if self.rows is not None:  # entities alone; a batch may have none
            related_B = self.related_T[labels_B]
            features_BD, labels_B = features_BD[related_B], labels_B[related_B]
            if not len(labels_B):
                return {"co_tuning": 0.0 * outputs.features.sum()}
        loss = soft_cross_entropy(model.source_head(features_BD), self.relationship_TS[labels_B])
        return {"co_tuning": self.config.weight * loss}

    def summary(self, task: Task) -> dict[str, Any]:
        """The likeliest source classes of each target class, or type of entity."""
        found = self.relationship_TS.topk(min(SHOWN, len(self.names)), dim=1)
        targets = {row: name[2:] for row, name in zip(self.rows or (), task.class_names, strict=False) if row >= 0}
        shown = [(name, (self.rows or ()).index(row)) for row, name in targets.items()]
        related = [
            {
                "target": target,
                "source": [
                    {"name": self.names[s], "probability": p}
                    for s, p in zip(found.indices[place].tolist(), found.values[place].tolist(), strict=True)
                ],
            }
            for target, place in (shown or [(name, n) for n, name in enumerate(task.class_names)])
        ]
        return {"related": related}
