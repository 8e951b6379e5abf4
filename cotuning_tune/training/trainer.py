"""The one loop: cross-entropy plus the method's terms.

Order and augmentation of a step follow from seed and step number alone: no generator has to be carried along,
and a batch may be fetched ahead of its step.
Shapes: B images of a batch, N of the training split, T target classes.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cotuning_tune.base.errors import TrainingFailed
from cotuning_tune.data import Crops, Split, Task, ahead
from cotuning_tune.methods import Batch, Method
from cotuning_tune.models import TransferModel
from cotuning_tune.training import optim, seeding
from cotuning_tune.training.config import TrainConfig
from cotuning_tune.training.order import places


@dataclass(frozen=True)
class Evaluation:
    """Top-1 accuracy in percent and mean cross-entropy over ``count`` images.

    ``class_accuracy``: the mean of the accuracies of the classes that have images, in percent.
    """

    accuracy: float
    loss: float
    count: int
    class_accuracy: float


@dataclass(frozen=True)
class Judgement:
    """What a model says of each image of a split, in its order; on the CPU.

    Label and predicted class int64 [N], that class's probability and the cross-entropy float64 [N].
    """

    labels_N: Tensor
    predicted_N: Tensor
    probability_N: Tensor
    loss_N: Tensor


class Trainer:
    """Trains a model on a task with a method; ``state_dict`` holds all it needs to continue exactly."""

    def __init__(self, model: TransferModel, method: Method, task: Task, config: TrainConfig, seed: int) -> None:
        self.device = next(model.parameters()).device
        self.model, self.method, self.task, self.config = model, method, task, config
        if not method.uses_source_head:
            model.source_head.requires_grad_(False)
        self.optimiser = optim.make_optimiser(config.optim, model, method)
        self.batch, self.batches = config.batch(len(task.fit)), config.batches(len(task.fit))
        self.steps = config.steps(self.batches)
        self.interval = config.interval or self.batches
        self.seed, self.epoch, self.step = seed, 0, 0
        bf16 = config.precision == "bf16" or (config.precision == "auto" and self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def _gather(self, chosen: list[int]) -> Tensor:
        """The stored images of these places, in pinned memory where a GPU waits for them."""
        stored = self.task.fit.stored(chosen)
        return stored.pin_memory() if self.device.type == "cuda" else stored

    def load_batch(self, chosen: list[int], stored: Tensor | None = None) -> Batch:
        """Images of these places of the training split, augmented as this step does, and labels, on the device."""
        stored = self._gather(chosen) if stored is None else stored
        stored = stored.to(self.device, non_blocking=True)
        generator = seeding.generator_of(self.seed, "augmentation", self.step)
        views = (self.task.augmented(stored, generator) for _ in range(self.method.views))
        labels = self.task.fit.labels_N[chosen].to(self.device)
        return Batch(tuple(map(self._to_device, views)), labels, torch.tensor(chosen, device=self.device))

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
        """One pass over the training split (to the nearest whole batch), or one interval of iterations.

        Returns the mean over its images of each term, of ``loss`` and ``accuracy`` (%), and the last ``lr``.
        Raises TrainingFailed where a term is not finite.
        """
        self._train_mode()
        count = 0
        sums: dict[str, Tensor] = {}
        correct = torch.zeros((), device=self.device)
        last = min(self.step + self.interval, self.steps)
        batches = places(self.seed, len(self.task.fit), self.batch, self.step, last)
        for chosen, stored in ahead(self._gather, batches):
            optim.set_learning_rate(self.optimiser, optim.factor(self.config.schedule, self.step, self.steps))
            terms, right = self.train_step(self.load_batch(chosen, stored))
            self.step, count = self.step + 1, count + len(chosen)
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

    def evaluate(self, split: Split, crops: Crops = "centre") -> Evaluation:
        """Accuracy and loss of a split: ``evaluation`` of ``judge``."""
        return self.evaluation(self.judge(split, crops))

    def evaluation(self, judged: Judgement) -> Evaluation:
        """The figures of a split's images together. Raises TrainingFailed where the loss is not finite."""
        total = judged.loss_N.sum().item()
        if not math.isfinite(total):
            raise TrainingFailed(f"not finite in evaluation after epoch {self.epoch}: loss = {total:g}")
        right_N, count = judged.predicted_N == judged.labels_N, len(judged.labels_N)
        hits_T, seen_T = (
            torch.bincount(labels, minlength=self.task.num_classes)
            for labels in (judged.labels_N[right_N], judged.labels_N)
        )
        shares = (hits_T.double() / seen_T)[seen_T > 0]
        return Evaluation(100.0 * int(right_N.sum()) / count, total / count, count, 100.0 * shares.mean().item())

    @torch.no_grad()
    def judge(self, split: Split, crops: Crops = "centre") -> Judgement:
        """One pass over a split: on the centre crops, or by the mean of the logits of the ten crops.

        The mean chooses the same class as the sum, and keeps the scale of the loss.
        """
        self.model.eval()
        found = []
        for stored, labels in self.task.stored_batches(split, max(self.config.batch_size, 64)):
            logits_BT, labels = self._logits(stored, crops), labels.to(self.device)
            predicted_B, probability_B = logits_BT.argmax(1), logits_BT.softmax(1).amax(1)
            found.append((labels, predicted_B, probability_B, cross_entropy(logits_BT, labels, reduction="none")))
        return Judgement(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))

    def _logits(self, stored: Tensor, crops: Crops) -> Tensor:
        """Logits [B, T] in float64, the mean over the crops of each image.

        The model computes in float32 whatever it trains in: bfloat16 leaves ties, which the classes' order decides.
        """
        views = self.task.crops(stored.to(self.device, non_blocking=True), crops)
        return torch.stack([self.model(self._to_device(view)).logits.double() for view in views]).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """All that changes while training: weights, optimiser, epoch, step, the global random generators."""
        rebuilt = tuple(f"{name}." for name in self.method.rebuilt)
        method = {k: v for k, v in self.method.state_dict().items() if not k.startswith(rebuilt)}
        return {
            "model": self.model.state_dict(),
            "method": method,
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seed": self.seed,
            "random": seeding.random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; on the CPU the next epoch is the same bit for bit."""
        self.model.load_state_dict(state["model"])
        missing = self.method.load_state_dict(state["method"], strict=False).missing_keys
        rebuilt = tuple(f"{name}." for name in self.method.rebuilt)
        if lost := [key for key in missing if not key.startswith(rebuilt)]:
            raise KeyError(f"the state lacks {lost[0]} of the method")
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step, self.seed = state["epoch"], state["step"], state["seed"]
        seeding.set_random_state(state["random"])
