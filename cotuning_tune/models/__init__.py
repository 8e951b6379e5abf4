"""Backbones with the head that they were trained with: one file a family, found by its name."""

from cotuning_tune.models._class_names import source_class_names
from cotuning_tune.models._neighbours import NeighbourHead
from cotuning_tune.models._taps import Tap
from cotuning_tune.models._transfer_model import (
    Backbone,
    Outputs,
    Pretrained,
    TransferModel,
    broken,
    families,
    family_of,
    has_batch_norm,
    licence_of,
    located,
    modality_of,
    names,
    plugin,
    pretrained,
    words_of,
)

__all__ = [
    "Backbone",
    "NeighbourHead",
    "Outputs",
    "Pretrained",
    "Tap",
    "TransferModel",
    "broken",
    "families",
    "family_of",
    "has_batch_norm",
    "licence_of",
    "located",
    "modality_of",
    "names",
    "plugin",
    "pretrained",
    "source_class_names",
    "words_of",
]
