"""Nearest neighbours: the most similar training images vote, by the features of the pre-trained network as they are.

Wu et al., *Unsupervised Feature Learning via Non-Parametric Instance Discrimination*, CVPR 2018; weights and defaults
as Caron et al., *Emerging Properties in Self-Supervised Vision Transformers*, ICCV 2021. The floor: what training must
surpass. Nothing trains: each epoch is one validation without a step, and gives the same row again. So a trial has as
many rows as those of other methods, for the pruner, the plan and equal terms, at a fraction of their time. Of what is
searched ``k`` alone has an effect, and no seed has any.

>>> NearestNeighbours.trains, NearestNeighbours.Config().k
(False, 20)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.data import Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method, Preparation
from cotuning_tune.models import NeighbourHead, TransferModel

VERSION = "features 1"


class NearestNeighbours(Method):
    """The target head is replaced by the features of the training split, un-augmented, with their labels."""

    source = "Wu et al., CVPR 2018"
    variant = True
    alone = True
    trains = False
    rebuilt = ("head",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        k: int = hyper(20, Range(1, 200, log=True), doc="neighbours that vote; at most all training images")
        temperature: float = hyper(0.07, doc="of the votes: exp(similarity / temperature)")

        def __post_init__(self) -> None:
            at_least(self, "methods.knn", k=1, temperature=1e-3)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        width, device = model.source_head.in_features, model.source_head.weight.device
        self.head = NeighbourHead(len(task.fit.labels_N), width, task.num_classes, config.k, config.temperature).to(
            device
        )
        model.add_module("head", self.head)

    def setup(self, preparation: Preparation) -> None:
        """Features of all that other methods train on, computed once for the task and then taken from the cache."""
        task, source = preparation.task, preparation.source

        def compute() -> dict[str, np.ndarray]:
            backbone, _ = preparation.source_copy()
            with torch.no_grad():
                found = [backbone(images)[0].cpu() for images, _ in preparation.batches(task.fit)]
            return {"features_ND": torch.cat(found).numpy()}

        key = content_key(VERSION, task.fit.fingerprint(), task.config.size, source.fingerprint)
        features_ND = torch.from_numpy(cached_arrays("features", key, compute)["features_ND"])
        self.head.fill(features_ND, task.fit.labels_N)
