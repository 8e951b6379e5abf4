"""Archives that would grow when they are read are refused before they are."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cotuning_tune.base.archives import refuse_growing
from cotuning_tune.base.errors import UserError
from cotuning_tune.export.torch_model import open_torch
from cotuning_tune.models.images._weights import read_checkpoint
from cotuning_tune.runs.predictions import Predictions
from cotuning_tune.training.state import packed, unpacked


def bomb(name: str = "labels.npy", size: int = 64 << 20) -> bytes:
    """A small zip archive of many zeros, the same bytes whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), bytes(size), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def test_what_torch_and_numpy_write_passes(tmp_path: Path) -> None:
    """Small and large, from memory and from a file; so does what is no archive."""
    for value in ({}, {"weights": torch.zeros(1 << 20)}):
        torch.save(value, tmp_path / "x.pt")
        refuse_growing(tmp_path / "x.pt")
        refuse_growing(io.BytesIO((tmp_path / "x.pt").read_bytes()))
    np.savez(tmp_path / "x.npz", a=np.zeros(1 << 18))
    refuse_growing(tmp_path / "x.npz")
    refuse_growing(io.BytesIO(b"no archive"))
    assert unpacked(packed({"a": 1})) == {"a": 1}


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """From memory and from a file, with both sizes in the line."""
    with pytest.raises(ValueError, match=r"its \d+ bytes would unpack to 67108864"):
        refuse_growing(io.BytesIO(bomb()))
    (tmp_path / "x.zip").write_bytes(bomb())
    with pytest.raises(ValueError, match="would unpack to 67108864"):
        refuse_growing(tmp_path / "x.zip")


def test_every_reader_refuses_it(tmp_path: Path) -> None:
    """Weights, states, predictions and exported models; a file's name stands in the line."""
    (tmp_path / "x.pth").write_bytes(bomb("x/data.pkl"))
    with pytest.raises(UserError, match=r"x\.pth holds no readable weights \(its \d+ bytes would unpack"):
        read_checkpoint(tmp_path / "x.pth")
    with pytest.raises(ValueError, match="would unpack"):
        unpacked(hashlib.sha256(bomb()).digest() + bomb())
    with pytest.raises(ValueError, match="not predictions: its"):
        Predictions.unpacked(bomb())
    with pytest.raises(UserError, match="cannot read the model: its"):
        open_torch(bomb("x/data.pkl"), {"format": "torchscript"})
