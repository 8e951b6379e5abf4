"""Bi-tuning: features and their projections are contrasted with those of other images, class by class.

Zhong, Wang, Kou, Wang, Long, *Bi-tuning of Pre-trained Representations*, 2020 (arXiv 2011.06182), as in the authors'
code: a key encoder follows the backbone slowly and looks at the second view, and each class has a queue of its latest
keys. Its classifier term sees the queues with the keys of the batch, the other one those without them.
Shapes: B images, D features, F = D + 1, Z projection, T target classes, K keys of a class.

>>> import torch
>>> current_B, queued_BTK = torch.zeros(1), torch.tensor([[[0.0], [-float("inf")]]])
>>> contrast(current_B, queued_BTK, torch.tensor([0]), temperature=1.0)  # no key of another class is similar
tensor(0.)
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, pad

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Batch, Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method
from cotuning_tune.models import Outputs, TransferModel


def contrast(current_B: Tensor, queued_BTK: Tensor, labels_B: Tensor, temperature: float) -> Tensor:
    """Mean over images of ``KL(uniform over the positives || softmax(similarity / temperature))``.

    The positives are K + 1: the ``current`` one and the queue of the image's own class.
    """
    logits = torch.cat([current_B.unsqueeze(1), queued_BTK.flatten(1)], dim=1) / temperature
    log_q = torch.log_softmax(logits, dim=1)
    own_BK = log_q[:, 1:].unflatten(1, queued_BTK.shape[1:])[torch.arange(len(labels_B)), labels_B]
    count = 1 + own_BK.shape[1]
    return -((log_q[:, 0] + own_BK.sum(dim=1)) / count).mean() - math.log(count)


def projection_contrast(
    z_query_BZ: Tensor, z_key_BZ: Tensor, queue_ZTK: Tensor, labels_B: Tensor, temperature: float
) -> Tensor:
    """The categorical contrastive loss: a projection with its key and those in the queues."""
    queued_BTK = torch.einsum("bz,ztk->btk", z_query_BZ, queue_ZTK)
    return contrast((z_query_BZ * z_key_BZ).sum(dim=1), queued_BTK, labels_B, temperature)


def classifier_contrast(
    h_query_BF: Tensor, head: nn.Linear, queue_FTK: Tensor, labels_B: Tensor, temperature: float
) -> Tensor:
    """The contrastive cross-entropy: the class's weights in the head, held fixed, with features and those queued."""
    weight_TF = normalize(torch.cat([head.weight, head.bias.unsqueeze(1)], dim=1), dim=1).detach()
    own_BF = weight_TF[labels_B]
    queued_BTK = torch.einsum("bf,ftk->btk", own_BF, queue_FTK)
    return contrast((h_query_BF * own_BF).sum(dim=1), queued_BTK, labels_B, temperature)


def homogeneous(features_BD: Tensor) -> Tensor:
    """Features with a 1 for the bias, of length 1; [B, F]."""
    return normalize(pad(features_BD, (0, 1), value=1.0), dim=1)


def enqueued(queue: Tensor, keys_BX: Tensor, labels_B: Tensor, next_T: Tensor) -> Tensor:
    """The queues [X, T, K] in which each key has replaced the oldest of its class; ``next_T``: where that stands."""
    size, ones_BT = queue.shape[2], one_hot(labels_B, queue.shape[1])
    rank_B = (ones_BT.cumsum(0) * ones_BT).sum(1) - 1
    last_B = ones_BT.sum(0)[labels_B] - rank_B <= size  # of more than K the first ones are gone again
    place_B = (next_T[labels_B] + rank_B) % size
    found = queue.clone()
    found[:, labels_B[last_B], place_B[last_B]] = keys_BX[last_B].T.to(queue.dtype)
    return found


class BiTuning(Method):
    """Adds ``weight * classifier_contrast`` and ``weight * projection_contrast``.

    Keys enter the queues after the step; of mixed images they enter those of both labels.
    """

    source = "Zhong et al., 2020"
    views = 2
    reads_labels = True
    queue_FTK: Tensor
    queue_ZTK: Tensor
    next_T: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(1.0, Range(1e-2, 10.0, log=True), neutral=0.0, doc="of both terms")
        keys: int = hyper(40, doc="in the queue of each class, K of the paper")
        momentum: float = hyper(0.999, doc="of the key encoder, m of the paper")
        temperature: float = hyper(0.07, doc="of the similarities, tau of the paper")
        dim: int = hyper(128, doc="of the projection")

        def __post_init__(self) -> None:
            at_least(self, "methods.bi_tuning", weight=0, keys=1, temperature=1e-3, dim=1)
            if not 0 <= self.momentum <= 1:
                problem = f"methods.bi_tuning.momentum = {self.momentum}: from 0 to 1 is needed"
                raise UserError(problem, "methods.bi_tuning.momentum")

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        width, classes = model.source_head.in_features, task.num_classes
        self.projector = nn.Linear(width, config.dim)
        self.key_backbone = copy.deepcopy(model.backbone).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)
        for name, size in (("queue_FTK", width + 1), ("queue_ZTK", config.dim)):
            self.register_buffer(name, normalize(torch.randn(size, classes, config.keys), dim=0))
        self.register_buffer("next_T", torch.zeros(classes, dtype=torch.int64))
        self.arrived: list[tuple[Tensor, Tensor, Tensor]] = []  # keys of the step that is being computed

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        labels_B, config = batch.labels, self.config
        h_key_BF, z_key_BZ = self._keys(batch.views[1], model)
        self.arrived.append((h_key_BF, z_key_BZ, labels_B))
        z_query_BZ = normalize(self.projector(outputs.features), dim=1)
        queue_FTK = enqueued(self.queue_FTK, h_key_BF, labels_B, self.next_T)
        h_query_BF = homogeneous(outputs.features)
        by_class = classifier_contrast(h_query_BF, model.head, queue_FTK, labels_B, config.temperature)
        by_projection = projection_contrast(z_query_BZ, z_key_BZ, self.queue_ZTK, labels_B, config.temperature)
        return {"classifier": config.weight * by_class, "projection": config.weight * by_projection}

    @torch.no_grad()
    def _keys(self, images: Tensor, model: TransferModel) -> tuple[Tensor, Tensor]:
        """Features [B, F] and projections [B, Z] of the key encoder, whose layers are in the mode of the backbone's."""
        for own, other in zip(self.key_backbone.modules(), model.backbone.modules(), strict=True):
            own.training = other.training
        features_BD = self.key_backbone(images)[0]
        return homogeneous(features_BD), normalize(self.key_projector(features_BD), dim=1)

    @contextmanager
    def stepping(self, model: TransferModel) -> Iterator[None]:
        yield
        with torch.no_grad():
            for h_BF, z_BZ, labels_B in self.arrived:
                self.queue_FTK.copy_(enqueued(self.queue_FTK, h_BF, labels_B, self.next_T))
                self.queue_ZTK.copy_(enqueued(self.queue_ZTK, z_BZ, labels_B, self.next_T))
                counts_T = torch.bincount(labels_B, minlength=len(self.next_T))
                self.next_T.copy_((self.next_T + counts_T) % self.config.keys)
            self.arrived.clear()
            keys: list[Tensor] = [*self.key_backbone.parameters(), *self.key_projector.parameters()]
            queries: list[Tensor] = [*model.backbone.parameters(), *self.projector.parameters()]
            torch._foreach_lerp_(keys, queries, 1 - self.config.momentum)
