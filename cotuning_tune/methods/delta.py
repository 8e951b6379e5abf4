"""DELTA: keeps feature maps close to the source network's, channel by channel as far as they matter.

Li, Xiong, Wang, Rao, Liu, Huan, *DELTA: Deep Learning Transfer using Feature Map with Attention*,
ICLR 2019, equations 5 to 7. Where a stage does not end in a convolution, as in DenseNet or in transformers, the map
is the output of its last block: of tokens, each of their channels is one of the map.

Shapes: B images, C channels and H x W pixels of a map, N of a split.

>>> import torch
>>> zeros, ones = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)
>>> attention_distance({"a": zeros}, {"a": ones}, {"a": torch.tensor([0.5, 0.5])})
tensor(1.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.data import Batch, Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Preparation
from cotuning_tune.methods._channel_attention import channel_attention
from cotuning_tune.methods._teacher import TaughtMethod
from cotuning_tune.models import Outputs, TransferModel

VERSION = "channel attention 2"


def attention_distance(
    source_maps: Mapping[str, Tensor],
    target_maps: Mapping[str, Tensor],
    attention: Mapping[str, Tensor] | None,
) -> Tensor:
    """``1/2 sum_layers sum_{b,c} C * attention_c / (H W) * ||target - source||^2``, summed over the batch.

    Maps [B, C, H, W] and attention [C] by layer name; the gradient flows to the target maps alone.
    Without attention: half the plain squared distance, as in the published code.
    """
    if source_maps.keys() != target_maps.keys():
        raise ValueError(f"layers differ: {sorted(source_maps.keys() ^ target_maps.keys())}")
    total: Tensor | None = None
    for name, target_BCHW in target_maps.items():
        difference = (target_BCHW - source_maps[name].detach()).to(
            torch.promote_types(target_BCHW.dtype, torch.float32)
        )
        if attention is None:
            part = difference.square().sum()
        else:
            channels, pixels = difference.shape[1], difference.shape[2] * difference.shape[3]
            part = (difference.square().sum((0, 2, 3)) * attention[name]).sum() * (channels / pixels)
        total = part if total is None else total + part
    if total is None:
        raise ValueError("there are no maps to compare")
    return 0.5 * total


class Delta(TaughtMethod):
    """Adds ``weight * attention_distance`` to a frozen source network and ``head_weight/2 ||w_head||^2``."""

    source = "Li et al., ICLR 2019"
    replaces_weight_decay = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(0.01, Range(1e-7, 1e-1, log=True), neutral=0.0, doc="alpha of the paper")
        head_weight: float = hyper(0.01, neutral=0.0, doc="beta of the paper, towards zero")
        attention: bool = hyper(True, doc="channel attention; false: every channel counts alike")

        def __post_init__(self) -> None:
            at_least(self, "methods.delta", weight=0, head_weight=0)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        taps = model.backbone.taps
        self.refuse_without(bool(taps), "compares feature maps, and this backbone has no stages of them")
        for stage, tap in taps.items():
            self.register_buffer(f"attention_{stage}", torch.full((tap.channels,), 1.0 / tap.channels))

    def setup(self, preparation: Preparation) -> None:
        """Channel attention, measured once for the task and then taken from the cache."""
        if not self.config.attention:
            return
        task, source = preparation.task, preparation.source

        def compute() -> dict[str, np.ndarray]:
            return {name: a.cpu().numpy() for name, a in channel_attention(preparation).items()}

        key = content_key(VERSION, task.train.fingerprint(), task.config.size, source.fingerprint)
        for stage, attention in cached_arrays("attention", key, compute).items():
            self.get_buffer(f"attention_{stage}").copy_(torch.from_numpy(attention))

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        with torch.no_grad():
            source_maps = self.teacher(batch.views[0])[1]
        attention = {stage: self.get_buffer(f"attention_{stage}") for stage in source_maps}
        distance = attention_distance(source_maps, outputs.maps, attention)
        norm = 0.5 * model.head.weight.square().sum()
        return {"distance": self.config.weight * distance, "head_norm": self.config.head_weight * norm}
