"""SPD, selective projection decay: weights are pulled back to the pre-trained ones where the gradient turns round.

Tian, Huang, Kira, *Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models*, NeurIPS 2024, around
the step of any optimiser. There every trained tensor is held; here those of the backbone. The new head, which has no
pre-trained weights, does not decay. Shapes: P tensors.

A tensor has gone from 3 to 4, its start at 0, with a gradient that leads back to it: a quarter of its distance is new,
and with weight 1 that is taken back.

>>> back_P = turned([torch.tensor([3.0])], gradients=[torch.tensor([2.0])])
>>> excess([torch.tensor([4.0])], torch.tensor([3.0]), back_P, weight=1.0)
[tensor([1.])]
>>> excess([torch.tensor([4.0])], torch.tensor([3.0]), back_P, weight=0.5)
[tensor([0.5000])]
>>> onward_P = turned([torch.tensor([3.0])], gradients=[torch.tensor([-2.0])])
>>> excess([torch.tensor([4.0])], torch.tensor([3.0]), onward_P, weight=1.0)
[tensor([0.])]
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


def turned(moved: Tensors, gradients: Tensors) -> Tensor:
    """Of which tensors [P] the gradient's descent leads back to the start: ``-g . (theta - theta_0) < 0``."""
    return torch.stack([product.sum() for product in torch._foreach_mul(moved, gradients)]) > 0


def norms(moved: Tensors) -> Tensor:
    """The distance of each tensor from its start, [P]."""
    return torch.stack(torch._foreach_norm(moved))


def excess(moved: Tensors, then_P: Tensor, turned_P: Tensor, weight: float) -> list[Tensor]:
    """What is taken from each tensor after the step: ``weight * r * (theta - theta_0)`` where ``turned_P``, else 0.

    r: the share of its distance that the step has added to ``then_P``.
    """
    now_P = norms(moved)
    share_P = torch.where(turned_P & (now_P > then_P), weight * (1 - then_P / now_P), 0.0)
    return list(torch._foreach_mul(moved, share_P.unbind()))


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
        weights, start, gradients = zip(*found, strict=True)
        moved = torch._foreach_sub(weights, start)
        then_P, turned_P = norms(moved), turned(moved, gradients)  # a step may change gradients in place
        yield
        taken = excess(torch._foreach_sub(weights, start), then_P, turned_P, self.config.weight)
        torch._foreach_sub_(weights, taken)
