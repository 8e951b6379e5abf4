"""A small training of a method, and what tests ask of one."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cotuning_tune.base.seeding import seed_all
from cotuning_tune.hyper import fields_of
from cotuning_tune.methods import Batch, method
from cotuning_tune.training import Trainer, TrainingSpec
from cotuning_tune.training.job import make_trainer

CLOCK = {"seconds", "time"}


def spec_of(
    name: str, *, config: Mapping[str, Any] | None = None, images: int = 10, seed: int = 0, **train: Any
) -> TrainingSpec:
    """A training of three batches an epoch: 3 classes of ``images``, a fifth of them for validation."""
    return TrainingSpec(
        task="synthetic",
        rate=1.0,
        method=name,
        backbone="tiny_cnn",
        seed=seed,
        task_config={"size": 32, "resize": 36, "min_scale": 0.5},
        data_options={"classes": 3, "images": images},
        train={"epochs": 2, "batch_size": 8, **train},
        method_config=dict(config or {}),
    )


def trainer_of(name: str, **options: Any) -> Trainer:
    """A trainer in training mode, before its first step."""
    trainer = make_trainer(spec_of(name, **options))
    trainer.model.train()
    trainer.method.train()
    return trainer


def move(model: nn.Module) -> None:
    """Take every weight a little away from where it is."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator, dtype=torch.float64))


def terms_of(trainer: Trainer, batch: Batch) -> dict[str, Tensor]:
    """All terms of the loss, from a copy of model and method: a queue that moves on changes nothing here."""
    kept = trainer.model, trainer.method
    trainer.model, trainer.method = copy.deepcopy(kept)
    seed_all(0)
    try:
        return trainer.losses(batch)[0]
    finally:
        trainer.model, trainer.method = kept


def neutral_values(name: str) -> dict[str, object]:
    """Every trade-off weight of a method at the value where its effect vanishes."""
    metadata = {key: item.metadata for key, (item, _) in fields_of(method(name).Config).items()}
    return {key: found["neutral"] for key, found in metadata.items() if found.get("neutral") is not None}


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    """Equal bit for bit, buffers included."""
    theirs = other.state_dict()
    for key, value in one.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def without_clock(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a training without how long they took."""
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in history]


def tensors_in(value: object) -> bool:
    """Whether a plain attribute holds a tensor, in containers too."""
    if isinstance(value, dict):
        return any(map(tensors_in, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(tensors_in, value))
    return isinstance(value, Tensor)
