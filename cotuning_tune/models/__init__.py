"""Backbones with the head that they were trained with: one file a family, found by its name."""

from cotuning_tune.models._class_names import source_class_names
from cotuning_tune.models._transfer_model import (
    Backbone,
    Outputs,
    Pretrained,
    TransferModel,
    families,
    names,
    pretrained,
)

__all__ = [
    "Backbone",
    "Outputs",
    "Pretrained",
    "TransferModel",
    "families",
    "names",
    "pretrained",
    "source_class_names",
]
