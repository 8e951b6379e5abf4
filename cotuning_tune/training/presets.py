"""Trainings by name: what ``[train]`` takes from ``preset``, unless it has keys of its own.

Values pin, lists choose, ``low`` and ``high`` search, as in an experiment file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cotuning_tune.base.errors import unknown
from cotuning_tune.hyper import overlaid


@dataclass(frozen=True)
class Preset:
    """A table of ``[train]``, and where its numbers come from."""

    source: str
    train: Mapping[str, Any] = field(default_factory=dict)


PRESETS = {
    "paper-2020": Preset("You et al., Co-Tuning for Transfer Learning, NeurIPS 2020, section 5: the defaults"),
    "timm-finetune": Preset(
        "He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, table 9, as timm's script takes it",
        {
            "optim": {
                "name": "adamw",
                "lr": {"low": 1e-5, "high": 1e-3, "log": True},
                "betas": [0.9, 0.999],
                "weight_decay": {"low": 1e-3, "high": 1e-1, "log": True},
                "decay_all": False,
                "layer_decay": [0.75, 0.65, 1.0],
            },
            "schedule": "cosine",
            "warmup": 0.05,
            "label_smoothing": 0.1,
            "mixup": 0.8,
            "cutmix": 1.0,
            "augment": "randaugment",
        },
    ),
    "few-shot": Preset(
        "Kolesnikov et al., Big Transfer, ECCV 2020, section 3.3: the rule for small tasks",
        {
            "optim": {"lr": {"low": 3e-4, "high": 3e-2, "log": True}, "weight_decay": 0.0},
            "iterations": 500,
            "interval": 50,
            "schedule": "cosine",
            "warmup": 0.1,
            "batch_norm": ["train", "frozen"],
            "label_smoothing": [0.0, 0.1],
        },
    ),
}


def with_preset(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table ``[train]`` with what its ``preset`` adds: its own keys stay. Raises UserError for an unknown name."""
    own = {key: value for key, value in table.items() if key != "preset"}
    name = table.get("preset", "paper-2020")
    if name not in PRESETS:
        raise unknown("preset", str(name), PRESETS, "train.preset")
    return overlaid(PRESETS[name].train, own)
