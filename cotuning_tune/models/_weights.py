"""Reading a file of weights, with one clear line where that fails."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cotuning_tune.errors import UserError


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a torch or safetensors file; a dict under ``state_dict`` or ``model`` is unpacked."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise UserError(f"{path} holds no readable weights ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{path} holds no weights but a {type(found).__name__}, a state dict is needed")
    return {key.removeprefix("module."): value for key, value in found.items()}


def load_strictly(module: torch.nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict; UserError where names or shapes differ."""
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as problem:
        lines = [line.strip() for line in str(problem).splitlines()[1:]]
        raise UserError(f"the weights do not fit {what}: {lines[0] if lines else problem}") from None
