"""The folder of an exported model: its files, and what ``model.json`` says. Needs no torch.

Shapes: B images of a batch, C the side the network sees, T target classes.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place, read_json
from cotuning_tune.export import EVERY

VERSION = 1
Classify = Callable[[np.ndarray], np.ndarray]
"""From images uint8 [B, 3, C, C] to logits float32 [B, T]."""


def digest(data: bytes) -> str:
    """The SHA-256 of a model file."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """The folder of an exported model."""

    path: Path

    @property
    def description(self) -> Path:
        """Written last: it exists if and only if the export is whole."""
        return self.path / "model.json"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    def model(self, format_name: str) -> Path:
        return self.path / EVERY[format_name]

    def read(self) -> dict[str, Any]:
        """What ``model.json`` says. Raises UserError where there is none that this version reads."""
        if not self.description.is_file():
            raise UserError(f"no exported model in {self.path}: {self.description.name} is missing there")
        found = read_json(self.description)
        if not isinstance(found, dict) or found.get("version") != VERSION or found.get("format") not in EVERY:
            raise UserError(f"{self.description} is of no exported model that this version of cotuning-tune reads")
        return found

    def read_model(self, description: dict[str, Any]) -> bytes:
        """The model file. Raises UserError where it is missing or another one than ``model.json`` describes."""
        path = self.model(description["format"])
        if not path.is_file():
            raise UserError(f"{path} is missing")
        data = path.read_bytes()
        if digest(data) != description["sha256"]:
            raise UserError(f"{path} is damaged, or not the file that {self.description.name} describes")
        return data


def open_bundle(path: str | Path) -> Bundle:
    """The export in a folder of this machine or of an object store."""
    return Bundle(place(path))
