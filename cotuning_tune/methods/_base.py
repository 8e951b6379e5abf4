"""What a method is: a module that adds scalar terms to the cross-entropy of the target head.

Shapes: B images, C x C pixels, N of a split, S source classes, T target classes.
"""

import copy
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Batch, Split, Task
from cotuning_tune.models import Backbone, Outputs, Pretrained, TransferModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What ``Method.setup`` may look at: the task's training and validation split, un-augmented."""

    task: Task
    source: Pretrained
    device: torch.device
    batch_size: int = 64

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """The examples of a split as the network takes them, and the classes of their targets; in order."""
        for stored, labels in self.task.stored_batches(split, self.batch_size):
            yield self.task.views.plain(stored, self.device)[0], labels.to(self.device)

    def source_copy(self) -> tuple[Backbone, nn.Linear]:
        """The pre-trained network on the device, in evaluation mode."""
        backbone, head = copy.deepcopy(self.source.backbone), copy.deepcopy(self.source.source_head)
        backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return backbone.eval(), head.to(self.device).eval()

    @torch.no_grad()
    def source_logits(self, split: Split) -> Tensor:
        """Logits of the pre-trained network for a split, [N, S] on the CPU."""
        backbone, head = self.source_copy()
        return torch.cat([head(backbone(view)[0]).cpu() for view, _ in self.batches(split)])


class Draws:
    """Where a method draws at random: its generator (CPU) follows from seed and step. None: torch's own generator.

    A copy of a network draws where the network does.
    """

    generator: torch.Generator | None = None

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from 0 to below 1, on the CPU."""
        return torch.rand(*shape, generator=self.generator)

    def __deepcopy__(self, memo: object) -> "Draws":
        return self


class Method(nn.Module):
    """Plain fine-tuning plus ``terms``. State lives in parameters and buffers, so it moves and resumes.

    ``source``: who published it, for lists.
    ``uses_source_head``: the source head is trained too, at the backbone's learning rate.
    ``replaces_weight_decay``: the method brings its own penalty; the optimiser's is then 0.
    ``reads_labels``: its terms depend on the labels; where images are mixed, they are the mix of both labels' terms.
    ``variant``: another way of training, with no term that could be switched off.
    ``alone``: it adds nothing to another method, or leaves it nothing to work on.
    ``trains``: False where no weight is trained: an epoch is validated without a step, and is a row as any other.
    ``rebuilt``: names of buffers and modules that ``__init__`` makes from the pre-trained weights, or that are the
    model's; they are not written with the method into the state of an interrupted training.
    """

    Config: ClassVar[type]
    source: ClassVar[str] = ""
    views: ClassVar[int] = 1
    uses_source_head: ClassVar[bool] = False
    replaces_weight_decay: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    variant: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    rebuilt: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        """``model`` is at its pre-trained weights; a method may replace modules of it."""
        super().__init__()
        self.config, self.draws = config, Draws()

    def check(self, source: Pretrained) -> None:
        """Before anything runs: UserError where the method cannot serve this backbone."""

    def setup(self, preparation: Preparation) -> None:
        """One pass before training; not called again when an interrupted training continues."""

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        """Scalar terms to add to the loss, already weighted, by the name under which they are logged."""
        return {}

    def still(self, done: float) -> float:
        """Which share of the backbone's layers, from the images on, keeps weights and statistics.

        ``done``: the share (0 to 1) of the steps that are done.
        """
        return 0.0 if self.trains else 1.0

    def kept(self, network: TransferModel) -> TransferModel:
        """The plain network that is validated, kept and tested, where that is another than the trained one."""
        return network

    def stepping(self, model: TransferModel) -> AbstractContextManager[None]:
        """Around each step of the optimiser: before it the gradients are there, after it the weights have moved."""
        return nullcontext()

    def summary(self, task: Task) -> dict[str, Any]:
        """What a reader of the report may want to know of the method after training, as JSON; {}: nothing.

        ``related``: for each target class ``{"target": name, "source": [{"name", "probability"}, ...]}``.
        """
        return {}

    def refuse_without(self, condition: bool, reason: str) -> None:
        """UserError with the method's name unless the condition holds."""
        if not condition:
            raise UserError(f"{self.name} {reason}")

    def refuse_foreign_head(self, source: Pretrained) -> None:
        """UserError where the head was not trained with its backbone; random weights are warned of."""
        if source.is_random:
            log.warning("%s: the weights of %s are random, its head knows no classes", self.name, source.name)
            return
        why = f" ({source.note})" if source.note else ""
        self.refuse_without(source.head_is_trained, f"needs the head that the backbone was trained with{why}")

    @property
    def name(self) -> str:
        """The method's name: that of its file."""
        return type(self).__module__.rsplit(".", 1)[-1]
