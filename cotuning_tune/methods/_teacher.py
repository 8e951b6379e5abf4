"""A method that keeps the source network beside the model: a frozen copy of the backbone at its pre-trained weights."""

import copy
from typing import Any, ClassVar, Self

from cotuning_tune.data import Task
from cotuning_tune.methods._base import Method
from cotuning_tune.models import TransferModel


class TaughtMethod(Method):
    """Keeps ``teacher``: the source backbone, never trained, always in evaluation mode, not written to disk."""

    rebuilt: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.teacher = copy.deepcopy(model.backbone).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self
