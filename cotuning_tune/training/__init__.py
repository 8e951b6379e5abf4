"""Training of one configuration: the loop, its state, and the folder that lets it continue after a kill."""

from cotuning_tune.training.config import OptimConfig, TrainConfig, TrainingSpec
from cotuning_tune.training.job import TrainingJob
from cotuning_tune.training.presets import PRESETS, with_preset
from cotuning_tune.training.trainer import Trainer

__all__ = [
    "PRESETS",
    "OptimConfig",
    "TrainConfig",
    "Trainer",
    "TrainingJob",
    "TrainingSpec",
    "with_preset",
]
