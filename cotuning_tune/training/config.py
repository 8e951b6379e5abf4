"""The settings of a training: the published setting as defaults, ranges where a search looks.

Defaults: You et al., NeurIPS 2020, section 5: SGD, momentum 0.9, batch 48, ten-fold head learning rate. What came
later is off by default, and off is the published setting bit for bit.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Augmentation
from cotuning_tune.hyper import Choice, Range, Space, at_least, hyper, shares
from cotuning_tune.scores import ACCURACY


def _outside(key: str, value: object, wanted: str) -> UserError:
    return UserError(f"train.{key} = {value}: {wanted} is needed", f"train.{key}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser. ``lr`` is the backbone's and the source head's; the new head learns at ``lr * head_lr_factor``.

    ``layer_decay``: a layer k layers below the last one of the backbone learns at ``lr * layer_decay ** k`` (Clark et
    al., ELECTRA, ICLR 2020). ``adamw``: Loshchilov & Hutter, ICLR 2019.
    """

    name: Literal["sgd", "adamw"] = hyper("sgd", doc="adamw: betas instead of momentum, decoupled weight decay")
    lr: float = hyper(1e-3, Range(1e-4, 3e-2, log=True), doc="of the backbone")
    head_lr_factor: float = hyper(10.0, Choice((1.0, 10.0, 30.0)), doc="new head over backbone")
    layer_decay: float = hyper(1.0, doc="of the learning rate from layer to layer towards the input; 1: none")
    momentum: float = hyper(0.9, doc="of sgd")
    nesterov: bool = hyper(True, doc="of sgd")
    betas: tuple[float, ...] = hyper((0.9, 0.999), doc="of adamw")
    weight_decay: float = hyper(5e-4, Range(1e-6, 1e-2, log=True), doc="0 for methods that bring their own")
    decay_all: bool = hyper(True, doc="false: no weight decay on norms and biases")
    clip_norm: float = hyper(0.0, doc="largest norm of the gradient; 0: any")

    def __post_init__(self) -> None:
        at_least(self, "train.optim", lr=0, head_lr_factor=0, momentum=0, weight_decay=0, clip_norm=0)
        if not 0 < self.layer_decay <= 1:
            raise _outside("optim.layer_decay", self.layer_decay, "above 0 and at most 1")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise _outside("optim.betas", list(self.betas), "two numbers from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training; every field may be searched by an experiment file."""

    optim: OptimConfig = OptimConfig()
    epochs: int = hyper(30, doc="passes over the training split, each to the nearest whole batch")
    iterations: int = hyper(0, doc="steps in all, instead of epochs; published: 9000; 0: epochs count")
    interval: int = hyper(0, doc="with iterations: steps between validations, each counts as an epoch; 0: a pass")
    batch_size: int = hyper(48, doc="examples of every batch; all of a training split that is smaller")
    schedule: Literal["multistep", "cosine", "linear", "constant"] = hyper(
        "multistep", doc="multistep: x 0.1 after 2/3"
    )
    warmup: float = hyper(0.0, doc="share of the steps in which the learning rate rises to its height")
    label_smoothing: float = hyper(0.0, doc="of the target head's cross-entropy, in training")
    class_weights: Literal["none", "balanced", "effective"] = hyper(
        "none", doc="of the cross-entropy in training: by the number of examples, or the effective number"
    )
    mixup: float = hyper(0.0, doc="parameter of the Beta distribution of its shares; 0: off")
    cutmix: float = hyper(0.0, doc="the same of cutmix; with mixup, each batch takes one of them")
    augment: Literal["none", "trivialaugment", "randaugment"] = hyper("none", doc="of each image, after crop and flip")
    random_erasing: float = hyper(0.0, doc="share of the images of which a part is made grey")
    drop_path: float = hyper(
        -1.0,
        doc="share of the examples whose last residual branch is dropped, less before it; -1: as the backbone has it",
    )
    dropout: float = hyper(
        -1.0, doc="share of the features zeroed before the new head; -1: the backbone's own last dropout, if it has one"
    )
    freeze: float = hyper(0.0, doc="share of the backbone's layers, from the input on, that stay as they are")
    ema: float = hyper(0.0, doc="of the weights, validated and kept instead of them: its decay a step; 0: off")
    parts: int = hyper(1, doc="that a batch is computed in, for less memory; gradients are summed")
    batch_norm: Literal["train", "frozen"] = hyper("train", doc="frozen: pre-trained statistics are kept")
    epoch: Literal["last", "best"] = hyper(
        "last", doc="whose weights are kept and judged: the last one's, or of the best validation score"
    )
    precision: Literal["auto", "float32", "bf16", "fp16"] = hyper(
        "auto", doc="of training; auto: bf16 autocast on a GPU; fp16: with a scale of the loss"
    )
    compile: bool = hyper(False, doc="the forward and backward pass of training by torch.compile")

    def __post_init__(self) -> None:
        at_least(self, "train", epochs=1, iterations=0, interval=0, batch_size=1, mixup=0, cutmix=0, parts=1)
        shares(self, "train", "warmup", "label_smoothing", "ema", whole=False)
        shares(self, "train", "random_erasing", "freeze")
        for name in ("drop_path", "dropout"):
            if getattr(self, name) != -1 and not 0 <= getattr(self, name) < 1:
                raise _outside(name, getattr(self, name), "from 0 to below 1, or -1 (as the backbone has it),")
        if self.interval and not self.iterations:
            raise UserError("train.interval counts with train.iterations alone: give both", "train.interval")

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the training examples beyond the task's own."""
        return Augmentation(self.augment, self.random_erasing, self.mixup, self.cutmix)

    def batch(self, examples: int) -> int:
        """Examples of every batch of a training split of so many."""
        return min(self.batch_size, examples)

    def smallest_part(self, examples: int) -> int:
        """Examples of the smallest of the parts that every batch is computed in."""
        batch = self.batch(examples)
        return batch // min(self.parts, batch)

    def batches(self, examples: int) -> int:
        """Steps of a pass over a training split of so many: every batch is full, so the nearest whole number."""
        return max(1, round(examples / self.batch_size))

    def steps(self, batches: int) -> int:
        """Steps in all, where a pass has ``batches``."""
        return self.iterations or self.epochs * batches

    def rows(self, batches: int) -> int:
        """How many times it validates: once an epoch, or once an interval."""
        return math.ceil(self.iterations / (self.interval or batches)) if self.iterations else self.epochs


def hardest(space: Space) -> dict[str, Any]:
    """Of all that a space of ``TrainConfig`` may draw what asks most of a backbone: the smallest part of a batch,
    BatchNorm that trains, branches that are dropped, a compiler."""
    norms = space["batch_norm"].extremes
    return {
        "batch_size": min(space["batch_size"].extremes),
        "parts": max(space["parts"].extremes),
        "batch_norm": "train" if "train" in norms else norms[0],
        "drop_path": max(space["drop_path"].extremes),
        "compile": any(space["compile"].extremes),
    }


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """All that determines a training, JSON-able; equal specs give equal results on the same machine.

    ``train`` and ``method_config`` are flat ``outer/inner`` values, see ``hyper.build``. ``source_val``: a
    folder of examples of the source classes, of which at most ``source_val_images`` calibrate the source head.
    """

    task: str
    rate: float
    method: str
    backbone: str
    seed: int
    format: str = ""
    metric: str = ACCURACY.name
    weights: str = ""
    source_val: str = ""
    source_val_images: int = 2000
    task_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    data_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    method_config: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def epoch(self) -> str:
        """Which epoch is kept (``train.epoch``): the default where the spec does not say."""
        return str(self.train.get("epoch", TrainConfig.epoch))

    def to_json(self) -> dict[str, Any]:
        """Without a metric that is accuracy: as earlier versions wrote it, which knew no other."""
        found = dataclasses.asdict(self)
        if self.metric == ACCURACY.name:
            del found["metric"]
        return found

    def identity(self) -> dict[str, Any]:
        """What its results depend on: all but ``task.decode``; ``task.duplicates`` shows in the examples themselves."""
        task_config = {k: value for k, value in self.task_config.items() if k not in ("decode", "duplicates")}
        return dataclasses.replace(self, task_config=task_config).to_json()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingSpec":
        return cls(**values)
