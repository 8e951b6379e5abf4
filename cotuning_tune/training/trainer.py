"""The one loop: cross-entropy plus the method's terms.

Shapes: B images of a batch, N of the training part, T target classes.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cotuning_tune.data import Split, Task
from cotuning_tune.errors import TrainingFailed
from cotuning_tune.methods import Batch, Method
from cotuning_tune.models import TransferModel
from cotuning_tune.training import optim, seeding
from cotuning_tune.training.config import TrainConfig


@dataclass(frozen=True)
class Evaluation:
    """Top-1 accuracy in percent and mean cross-entropy over ``count`` images."""

    accuracy: float
    loss: float
    count: int


class Trainer:
    """Trains a model on a task with a method; ``state_dict`` holds all it needs to go on exactly."""

    def __init__(self, model: TransferModel, method: Method, task: Task, config: TrainConfig, seed: int) -> None:
        self.device = next(model.parameters()).device
        self.model, self.method, self.task, self.config = model, method, task, config
        if not method.uses_source_head:
            model.source_head.requires_grad_(False)
        self.optimiser = optim.make_optimiser(config.optim, model, method)
        self.batches = math.ceil(len(task.train) / config.batch_size)
        self.epoch = 0
        self.order = torch.Generator().manual_seed(seeding.derive_seed(seed, "order"))
        self.augmentation = torch.Generator().manual_seed(seeding.derive_seed(seed, "augmentation"))
        bf16 = config.precision == "bf16" or (config.precision == "auto" and self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def load_batch(self, chosen: list[int]) -> Batch:
        """Augmented images and labels of these places of the training part, on the device."""
        views = tuple(
            self._to_device(self.task.training_images(chosen, self.augmentation)) for _ in range(self.method.views)
        )
        labels = self.task.train.labels_N[chosen].to(self.device)
        return Batch(views, labels, torch.tensor(chosen, device=self.device))

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Every term of the loss by name, and how many images are classified right."""
        with self.autocast:
            outputs = self.model(batch.views[0])
            terms = {"ce": cross_entropy(outputs.logits, batch.labels)}
            terms |= self.method.terms(batch, outputs, self.model)
        return terms, (outputs.logits.detach().argmax(1) == batch.labels).sum()

    def train_step(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimiser on a batch; returns what ``losses`` gives, detached."""
        terms, correct = self.losses(batch)
        self.optimiser.zero_grad(set_to_none=True)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        self.optimiser.step()
        return {name: term.detach() for name, term in terms.items()}, correct

    def _train_mode(self) -> None:
        self.model.train()
        self.method.train()
        if self.config.batch_norm == "frozen":
            optim.freeze_statistics(self.model)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training part; mean of each term, ``loss``, ``accuracy`` (%), ``lr``.

        Raises TrainingFailed where a term is not finite.
        """
        self._train_mode()
        count, total = len(self.task.train), self.batches * self.config.epochs
        order = torch.randperm(count, generator=self.order)
        sums: dict[str, Tensor] = {}
        correct = torch.zeros((), device=self.device)
        for number, chosen in enumerate(order.tensor_split(self.batches)):
            step = self.epoch * self.batches + number
            optim.set_learning_rate(self.optimiser, optim.factor(self.config.schedule, step, total))
            terms, right = self.train_step(self.load_batch(chosen.tolist()))
            correct += right
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.double() * len(chosen)
        self.epoch += 1
        means = {name: value.item() / count for name, value in sums.items()}
        self._check_finite(means)
        lr = self.optimiser.param_groups[0]["lr"]
        return {**means, "loss": sum(means.values()), "accuracy": 100 * correct.item() / count, "lr": lr}

    def _check_finite(self, means: dict[str, float]) -> None:
        if bad := [f"{name} = {value:g}" for name, value in means.items() if not math.isfinite(value)]:
            raise TrainingFailed(f"not finite in epoch {self.epoch}: {', '.join(bad)}")

    @torch.no_grad()
    def evaluate(self, split: Split) -> Evaluation:
        """Accuracy and loss on the centre crops of a split."""
        self.model.eval()
        correct, loss = 0, 0.0
        for images, labels in self.task.plain_batches(split, max(self.config.batch_size, 64)):
            with self.autocast:
                logits_BT = self.model(self._to_device(images)).logits
            labels = labels.to(self.device)
            correct += int((logits_BT.argmax(1) == labels).sum())
            loss += cross_entropy(logits_BT.double(), labels, reduction="sum").item()
        if not math.isfinite(loss):
            raise TrainingFailed(f"not finite in evaluation after epoch {self.epoch}: loss = {loss:g}")
        return Evaluation(100.0 * correct / len(split), loss / len(split), len(split))

    def state_dict(self) -> dict[str, Any]:
        """All that changes while training: weights, optimiser, epoch, every random generator."""
        rebuilt = tuple(f"{name}." for name in self.method.rebuilt)
        method = {k: v for k, v in self.method.state_dict().items() if not k.startswith(rebuilt)}
        return {
            "model": self.model.state_dict(),
            "method": method,
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
            "random": seeding.random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``; on the CPU the next epoch is the same bit for bit."""
        self.model.load_state_dict(state["model"])
        missing = self.method.load_state_dict(state["method"], strict=False).missing_keys
        rebuilt = tuple(f"{name}." for name in self.method.rebuilt)
        if lost := [key for key in missing if not key.startswith(rebuilt)]:
            raise KeyError(f"the state lacks {lost[0]} of the method")
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch = state["epoch"]
        self.order.set_state(state["order"])
        self.augmentation.set_state(state["augmentation"])
        seeding.set_random_state(state["random"])
