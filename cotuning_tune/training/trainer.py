"""The one loop: cross-entropy plus the method's terms.

Order and augmentation of a step follow from seed and step number alone: no generator has to be carried along,
and a batch may be fetched ahead of its step.
Shapes: B examples of a batch, N of the training split, T target classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from cotuning_tune.base import seeding
from cotuning_tune.base.errors import TrainingFailed
from cotuning_tune.data import Crops, Split, Task, ahead
from cotuning_tune.methods import Batch, Method
from cotuning_tune.models import Outputs, TransferModel
from cotuning_tune.scores import ACCURACY, Metric, Predicted, Score, evaluate
from cotuning_tune.training import optim
from cotuning_tune.training.config import TrainConfig
from cotuning_tune.training.order import places

REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Judgement:
    """What a model says of each target of a split, in its order; on the CPU.

    Label and predicted class int64 [N], that class's probability and the cross-entropy float64 [N];
    ``probabilities_NT`` of all classes, where the metric needs them.
    """

    labels_N: Tensor
    predicted_N: Tensor
    probability_N: Tensor
    loss_N: Tensor
    probabilities_NT: Tensor | None = None

    def predicted(self, split: Split, classes: Sequence[str]) -> Predicted:
        """As metrics take it."""
        labels, predicted, nll = (part.numpy() for part in (self.labels_N, self.predicted_N, self.loss_N))
        of_all = None if self.probabilities_NT is None else self.probabilities_NT.numpy()
        return Predicted(labels, predicted, nll, classes, split.lengths, of_all)


class Trainer:
    """Trains a model on a task with a method; ``state_dict`` holds all it needs to continue exactly."""

    def __init__(
        self,
        model: TransferModel,
        method: Method,
        task: Task,
        config: TrainConfig,
        seed: int,
        metric: Metric = ACCURACY,
    ) -> None:
        self.device = next(model.parameters()).device
        self.model, self.method, self.task, self.config, self.metric = model, method, task, config, metric
        if not method.uses_source_head:
            model.source_head.requires_grad_(False)
        if config.drop_path >= 0:
            model.backbone.set_drop_path(config.drop_path)
        if config.dropout >= 0:
            model.set_dropout(config.dropout)
        self.frozen = optim.freeze_layers(model.backbone, config.freeze)
        self.optimiser = optim.make_optimiser(config.optim, model, method)
        self.trained, self.still = [p for p in model.backbone.parameters() if p.requires_grad], 0.0
        self.averaged = optim.averaged(model, config.ema)
        self._network: TransferModel | None = None
        weights_T = optim.class_weights(config.class_weights, task.fit.labels_N, task.num_classes)
        self.class_weights_T = None if weights_T is None else weights_T.to(self.device)
        self.batch, self.batches = config.batch(len(task.fit)), config.batches(len(task.fit))
        self.steps = config.steps(self.batches)
        self.sizes = task.fit.sizes()
        self.interval = config.interval or self.batches
        self.seed, self.epoch, self.step = seed, 0, 0
        kind, precision = self.device.type, config.precision
        reduced = REDUCED.get("bf16" if precision == "auto" and kind == "cuda" else precision)
        self.autocast = torch.autocast(kind, reduced or torch.bfloat16, enabled=reduced is not None)
        self.scaler = torch.amp.GradScaler(kind, enabled=reduced == torch.float16)
        self.compiled: Callable[[Tensor], Outputs] | None = model.compiled() if config.compile else None

    def _gather(self, chosen: list[int]) -> Tensor:
        """The stored examples of these places, in pinned memory where a GPU waits for them."""
        stored = self.task.fit.stored(chosen)
        return stored.pin_memory() if self.device.type == "cuda" else stored

    def load_batch(self, chosen: list[int], stored: Tensor | None = None) -> Batch:
        """Examples of these places of the training split, augmented as this step does, and labels, on the device."""
        return self.task.views.batch(
            self._gather(chosen) if stored is None else stored,
            self.task.fit.labels(chosen),
            chosen,
            self.config.augmentation,
            count=self.method.views,
            seed=self.seed,
            step=self.step,
            device=self.device,
        )

    def _terms(self, batch: Batch, outputs: Outputs, *, with_method: bool = True) -> dict[str, Tensor]:
        smoothing, weights_T = self.config.label_smoothing, self.class_weights_T
        terms = {"ce": cross_entropy(outputs.logits, batch.labels, weights_T, label_smoothing=smoothing)}
        return terms | (self.method.terms(batch, outputs, self.model) if with_method else {})

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Every term of the loss by name, and how many examples are classified right.

        Of mixed examples a term that reads labels is the mix of both labels' terms; examples count by their shares.
        """
        with self.autocast:
            outputs = (self.compiled or self.model)(batch.views[0])
            terms, predicted_B = self._terms(batch, outputs), outputs.logits.detach().argmax(1)
            right = (predicted_B == batch.labels).sum()
            if batch.others is not None:
                other = batch._replace(labels=batch.others, others=None)
                others, share = self._terms(other, outputs, with_method=self.method.reads_labels), batch.share
                terms |= {name: share * terms[name] + (1 - share) * term for name, term in others.items()}
                right = share * right + (1 - share) * (predicted_B == batch.others).sum()
        return terms, right

    def train_step(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimiser on a batch; returns what ``losses`` gives, detached, the mean over its parts.

        A gradient that overflows (fp16) changes no weight; its step counts.
        """
        self._network = None
        self.optimiser.zero_grad(set_to_none=True)
        if max(self.config.drop_path, self.config.dropout) >= 0:
            torch.manual_seed(seeding.derive_seed(self.seed, "dropout", self.step))
        self.method.draws.generator = seeding.generator_of(self.seed, "method", self.step)
        sums: dict[str, Tensor] = {}
        correct = torch.zeros((), device=self.device)
        for part in batch.parts(self.config.parts):
            share = len(part.labels) / len(batch.labels)
            terms, right = self.losses(part)
            loss = cast(Tensor, sum(terms.values())) * share
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            correct = correct + right
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() * share
        self.scaler.unscale_(self.optimiser)
        if self.config.optim.clip_norm:
            groups = self.optimiser.param_groups
            clip_grad_norm_([p for group in groups for p in group["params"]], self.config.optim.clip_norm)
        with self.method.stepping(self.model):
            self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return sums, correct

    @property
    def network(self) -> TransferModel:
        """The network that is validated, kept and tested: what the method keeps of the model, or of its average.

        The same object until the next step of training: weights that are loaded into it stay.
        """
        if self._network is None:
            trained = self.averaged.module if self.averaged else self.model
            self._network = self.method.kept(cast(TransferModel, trained))
        return self._network

    def _train_mode(self) -> None:
        self.still = self.method.still(self.step / self.steps)
        for parameter in self.trained:
            parameter.requires_grad_(True)
        resting = optim.freeze_layers(self.model.backbone, self.still)
        self.model.train()
        self.model.backbone.train(self.still < 1)
        self.method.train()
        if self.config.batch_norm == "frozen":
            optim.freeze_statistics(self.model)
        for norms in (self.frozen, resting):
            optim.freeze_statistics(norms)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training split (to the nearest whole batch), or one interval of iterations.

        Returns the mean over its examples of each term, of ``loss`` and ``accuracy`` (%), and the last ``lr``; of a
        method that trains nothing a rate of 0 alone: no step is taken.
        Raises TrainingFailed where a term is not finite.
        """
        self._train_mode()
        count = 0
        sums: dict[str, Tensor] = {}
        correct = torch.zeros((), device=self.device)
        last = min(self.step + self.interval, self.steps)
        if not self.method.trains:
            self.step, self.epoch = last, self.epoch + 1
            return {"lr": 0.0}
        batches = places(self.seed, len(self.task.fit), self.batch, self.step, last, self.sizes)
        for chosen, stored in ahead(self._gather, batches):
            if self.method.still(self.step / self.steps) != self.still:
                self._train_mode()
            multiple = optim.factor(self.config.schedule, self.step, self.steps, self.config.warmup)
            optim.set_learning_rate(self.optimiser, multiple)
            batch = self.load_batch(chosen, stored)
            terms, right = self.train_step(batch)
            self.step, count = self.step + 1, count + len(batch.labels)
            correct += right
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.double() * len(batch.labels)
        self.epoch += 1
        means = {name: value.item() / count for name, value in sums.items()}
        self._check_finite(means)
        lr = self.config.optim.lr * multiple
        return {**means, "loss": sum(means.values()), "accuracy": 100 * correct.item() / count, "lr": lr}

    def _check_finite(self, means: dict[str, float]) -> None:
        if bad := [f"{name} = {value:g}" for name, value in means.items() if not math.isfinite(value)]:
            raise TrainingFailed(f"not finite in epoch {self.epoch}: {', '.join(bad)}")

    def evaluate(self, split: Split, crops: Crops = "centre") -> Score:
        """What the metric says of a split: ``score`` of ``judge``."""
        return self.score(self.judge(split, crops), split)

    def score(self, judged: Judgement, split: Split) -> Score:
        """The figures of a split's examples together. Raises TrainingFailed where the loss is not finite."""
        total = judged.loss_N.sum().item()
        if not math.isfinite(total):
            raise TrainingFailed(f"not finite in evaluation after epoch {self.epoch}: loss = {total:g}")
        return evaluate(self.metric, judged.predicted(split, tuple(map(str, self.task.class_names))))

    @torch.no_grad()
    def judge(self, split: Split, crops: Crops = "centre") -> Judgement:
        """One pass over a split: on the centre crops, or by the mean of the logits of the ten crops.

        The mean chooses the same class as the sum, and keeps the scale of the loss.
        """
        self.network.eval()
        found = []
        for stored, labels in self.task.stored_batches(split, max(self.config.batch_size, 64)):
            logits_BT, labels = self._logits(stored, crops), labels.to(self.device)
            probabilities_BT = logits_BT.softmax(1)
            loss_B = cross_entropy(logits_BT, labels, reduction="none")
            every = (probabilities_BT,) if self.metric.of_probabilities else ()
            found.append((labels, logits_BT.argmax(1), probabilities_BT.amax(1), loss_B, *every))
        return Judgement(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))

    def _logits(self, stored: Tensor, crops: Crops) -> Tensor:
        """Logits [B, T] in float64, the mean over the crops of each example.

        The model computes in float32 whatever it trains in: bfloat16 leaves ties, which the classes' order decides.
        """
        views = self.task.views.plain(stored, self.device, crops)
        return torch.stack([self.network(view).logits.double() for view in views]).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """All that changes while training: weights, optimiser, epoch, step, the global random generators."""
        rebuilt = tuple(f"{name}." for name in self.method.rebuilt)
        method = {k: v for k, v in self.method.state_dict().items() if not k.startswith(rebuilt)}
        return {
            "model": self.model.state_dict(),
            **({"averaged": self.averaged.state_dict()} if self.averaged else {}),
            **({"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}),
            "method": method,
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seed": self.seed,
            "random": seeding.random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; on the CPU the next epoch is the same bit for bit."""
        self._network = None
        self.model.load_state_dict(state["model"])
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        missing = self.method.load_state_dict(state["method"], strict=False).missing_keys
        rebuilt = tuple(f"{name}." for name in self.method.rebuilt)
        if lost := [key for key in missing if not key.startswith(rebuilt)]:
            raise KeyError(f"the state lacks {lost[0]} of the method")
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step, self.seed = state["epoch"], state["step"], state["seed"]
        seeding.set_random_state(state["random"])
