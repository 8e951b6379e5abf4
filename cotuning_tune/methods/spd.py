"""SPD, selective projection decay: weights are pulled back to the pre-trained ones where the gradient turns round.

Tian, Huang, Kira, *Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models*, NeurIPS 2024, around
the step of any optimiser. There every trained tensor is held; here those of the backbone. The new head, which has no
pre-trained weights, does not decay. Shapes: P tensors.

A tensor that stood at 3 from its start 0 has gone to 4, with a gradient that points back to the start: its distance has
grown by a quarter of what it is now, and with weight 1 it returns to where it was.

>>> start, before, now = [torch.zeros(1)], [torch.tensor([3.0])], [torch.tensor([4.0])]
>>> turns_P = turned(start, before, gradients=[torch.tensor([2.0])])
>>> pulled_back(start, before, now, turns_P, weight=1.0)
[tensor([3.])]
>>> pulled_back(start, before, now, turns_P, weight=0.5)
[tensor([3.5000])]
>>> pulled_back(start, before, now, turned(start, before, gradients=[torch.tensor([-2.0])]), weight=1.0)
[tensor([4.])]
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotuning_tune.data import Task
from cotuning_tune.hyper import Range, at_least, hyper
from cotuning_tune.methods._base import Method
from cotuning_tune.methods._start import Start
from cotuning_tune.models import TransferModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def turned(start: Tensors, before: Tensors, gradients: Tensors) -> Tensor:
    """Of which tensors [P] the gradient's descent leads back to the start: ``-g . (before - start) < 0``."""
    products = torch._foreach_mul(gradients, torch._foreach_sub(before, start))
    return torch.stack([product.sum() for product in products]) > 0


def pulled_back(start: Tensors, before: Tensors, now: Tensors, turned_P: Tensor, weight: float) -> list[Tensor]:
    """``now - weight * r * (now - start)`` where ``turned_P``; r: the share of the distance that the step added."""
    moved = torch._foreach_sub(now, start)
    then_P = torch.stack(torch._foreach_norm(torch._foreach_sub(before, start)))
    now_P = torch.stack(torch._foreach_norm(moved))
    share_P = torch.where(turned_P & (now_P > then_P), weight * (1 - then_P / now_P), 0.0)
    return list(torch._foreach_sub(now, torch._foreach_mul(moved, share_P.unbind())))


class SelectiveProjectionDecay(Method):
    """Adds no term: after each step tensors of the backbone are pulled back, selectively; no other weight decay."""

    source = "Tian et al., NeurIPS 2024"
    replaces_weight_decay = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(1.0, Range(0.01, 5.0, log=True), neutral=0.0, doc="1: as far from the start as before")

        def __post_init__(self) -> None:
            at_least(self, "methods.spd", weight=0)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.start = Start(model.backbone.parameters())

    @contextmanager
    def stepping(self, model: TransferModel) -> Iterator[None]:
        pairs = zip(model.backbone.parameters(), self.start.buffers(), strict=True)
        found = [(p.detach(), start, p.grad) for p, start in pairs if p.grad is not None]
        if not found or not self.config.weight:
            yield
            return
        now, start, gradients = zip(*found, strict=True)
        before = [weights.clone() for weights in now]
        turned_P = turned(start, before, gradients)  # a step may change gradients in place
        yield
        torch._foreach_copy_(now, pulled_back(start, before, now, turned_P, self.config.weight))
