"""The state file of an interrupted training: checked when it is read, the one before it kept.

A file is 32 bytes SHA-256 of the rest, then what ``torch.save`` wrote: a truncated or altered file is
noticed, whatever happened to it.
"""

import hashlib
import io
import pickle  # nosec B403 # for the name of its error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cotuning_tune.base.archives import refuse_growing
from cotuning_tune.base.files import move, write_bytes
from cotuning_tune.runs.folder import TrialDir

DIGEST = 32


def packed(value: Any) -> bytes:
    """A value as the content of a state file."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    payload = buffer.getvalue()
    return hashlib.sha256(payload).digest() + payload


def unpacked(data: bytes, device: str | torch.device = "cpu") -> Any:
    """The value of a state file's content, tensors and plain values: nothing in it is run, whoever wrote it.

    Raises ValueError where it is damaged.
    """
    payload = data[DIGEST:]
    if not payload or hashlib.sha256(payload).digest() != data[:DIGEST]:
        raise ValueError("its checksum does not fit")
    refuse_growing(io.BytesIO(payload))
    try:
        return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("it holds more than tensors and plain values") from None


def previous(path: Path) -> Path:
    """Where the state before the newest one is kept."""
    return path.with_suffix(".previous.pt")


def write_state(path: Path, data: bytes) -> None:
    """Write the newest state; the one before it is kept under ``previous``."""
    if path.exists():
        move(path, previous(path))
    write_bytes(path, data)


def read_state(path: Path, belongs: Callable[[], str]) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest good state whose ``spec`` is what ``belongs`` says, and a line for each that is not usable.

    ``belongs`` is asked where there is a state alone.
    """
    notices: list[str] = []
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        try:
            state: dict[str, Any] = unpacked(candidate.read_bytes())
        except ValueError as problem:
            notices.append(f"{candidate} is damaged ({problem}): continuing from the state before it")
            continue
        if state["spec"] != belongs():
            notices.append(f"{candidate} belongs to another configuration or to other data: not used")
            continue
        return state, notices
    if notices:
        notices.append(f"no usable state in {path.parent}: this training starts again")
    return None, notices


def remove_states(folder: TrialDir) -> None:
    """Delete the state, the one before it and the owner, on every validation split: the training has ended.

    The trial's own state goes last: where it is left, this is done again.
    """
    for part in (*map(TrialDir, folder.path.glob("split[0-9]*")), folder):
        for path in (part.state, previous(part.state), part.owner):
            path.unlink(missing_ok=True)
