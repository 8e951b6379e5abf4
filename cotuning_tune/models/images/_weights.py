"""Weights from files: what a checkpoint holds and whose head it has, in one clear line where it does not fit."""

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cotuning_tune.base.archives import refuse_growing
from cotuning_tune.base.errors import UserError, first_line, first_three

SOURCE_CLASSES = 1000
# What training scripts leave beside weights, and what cannot run anything: options, paths, numbers of numpy 1 and 2.
SCALAR, ARRAY = (cast(Callable[..., Any], value.__reduce__()[0]) for value in (np.float64(0), np.zeros(0)))
PLAIN: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *(argparse.Namespace, PosixPath, PurePosixPath, np.dtype, np.ndarray, SCALAR, ARRAY),
    *((SCALAR, "numpy.core.multiarray.scalar"), (ARRAY, "numpy.core.multiarray._reconstruct")),
    *(type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efdFDSU"),
]
# Where trainers put the weights: averaged ones (EMA) first, for those are what gets published.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "params_ema", "ema", "teacher"),
    *("state_dict", "model_state_dict", "model", "net", "network", "params", "weights"),
)
DEEPEST = 8
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
MOST = 0.75  # of the keys have a trainer's prefix; the rest belongs to the trainer: a criterion, metrics
# Self-supervised training: its name, how a key begins that only it has, how the keys of its backbone begin.
SELF_SUPERVISED = (
    ("MoCo", "encoder_q.", "encoder_q."),
    ("MoCo v3", "base_encoder.", "base_encoder."),
    ("DINO", "head.last_layer.", "backbone."),
    ("DINOv2", "dino_head.", "backbone."),
    ("SimSiam", "predictor.", "encoder."),
    ("SwAV", "prototypes.", ""),
    ("SwAV", "projection_head.", ""),
    ("MAE", "decoder_", ""),
)
LEFT_OUT = ("prototypes.", "projection_head.", "decoder_", "mask_token")
# What a file seems to be, by a key that it has.
SIGNS = (
    (r"features\.denseblock1\.", "a DenseNet of torchvision"),
    (r"encoder\.layers\.encoder_layer_0\.", "a vision transformer of torchvision"),
    (r"blocks\.0\.attn\.qkv\.", "a vision transformer in the names of timm"),
    (r"layers\.0\.blocks\.0\.attn\.", "a Swin transformer in the names of timm"),
    (r"(vit|embeddings|encoder\.layer\.0)\.", "a transformer in the names of Hugging Face"),
    (r"trunk_output\.", "a RegNet of torchvision"),
    (r"_conv_stem\.", "an EfficientNet of efficientnet_pytorch"),
    (r"conv_stem\.", "an EfficientNet or MobileNet in the names of timm"),
    (r"stages\.0\.blocks\.", "a ConvNeXt or another network in the names of timm"),
    (r"layers\.8\.0\.layers\.", "a MNASNet of torchvision"),
    (r"stage2\.0\.branch2\.", "a ShuffleNet of torchvision"),
    (r"features\.0\.0\.", "an EfficientNet, MobileNet, ConvNeXt or Swin transformer of torchvision"),
    (r"features\.0\.", "a VGG or AlexNet of torchvision"),
)
RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "a ResNet-18",
    ("basic", (3, 4, 6, 3)): "a ResNet-34",
    ("bottleneck", (3, 4, 6, 3)): "a ResNet-50 or its kin",
    ("bottleneck", (3, 4, 23, 3)): "a ResNet-101 or its kin",
    ("bottleneck", (3, 8, 36, 3)): "a ResNet-152 or its kin",
}


@dataclass(frozen=True)
class Checkpoint:
    """A state dict, where it comes from, and the kind of self-supervised training that made it ("": none known).

    ``left_out``: names of the file that are none of the network's.
    """

    weights: dict[str, Tensor]
    origin: str
    kind: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What was taken and what was left, in numbers."""
        left = f"; left out: {first_three(self.left_out)}" if self.left_out else ""
        return f"{len(self.weights)} tensors from {self.origin}{left}"


def _stored(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        refuse_growing(path)
        with torch.serialization.safe_globals(PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        if strange := re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(problem)):
            raise UserError(
                f"{path} holds a {strange[1]} beside its weights: reading it could run code of others, so it is not"
                " read; save the weights alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise UserError(f"{path} holds no readable weights ({first_line(problem)})") from None


def _unwrapped(found: Any) -> Any:
    """The state dict inside the dicts of a trainer; at most a few, for a file may hold a dict in itself."""
    for _ in range(DEEPEST):
        if not isinstance(found, Mapping):
            break
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    return found


def _plain(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the prefixes that most keys share; and the names of the others, which are not the network's."""
    weights = {key: value for key, value in weights.items() if key != "n_averaged"}
    others: list[str] = []
    while prefix := next((p for p in PREFIXES if _share(weights, p) > MOST), ""):
        others += [key for key in weights if not key.startswith(prefix)]
        weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return weights, others


def _share(weights: Mapping[str, Tensor], prefix: str) -> float:
    """How many of the names begin so."""
    return sum(key.startswith(prefix) for key in weights) / max(1, len(weights))


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The weights of a torch or safetensors file, unpacked, without the prefixes of its trainer.

    Raises UserError where the file is missing, damaged or holds something else.
    """
    path = Path(path).expanduser()
    found = _unwrapped(_stored(path))
    weights = {key: value for key, value in found.items() if isinstance(value, Tensor)} if _is_dict(found) else {}
    if not weights:
        keys = f" with {', '.join(map(repr, list(found)[:5]))}" if _is_dict(found) and found else ""
        raise UserError(f"{path} holds no weights but a {type(found).__name__}{keys}, a state dict is needed")
    weights, others = _plain(weights)
    for kind, sign, prefix in SELF_SUPERVISED:
        if any(key.startswith(sign) for key in weights):
            kept = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            kept = {k: v for k, v in kept.items() if not k.startswith(LEFT_OUT)}
            others += [k for k in weights if k.removeprefix(prefix) not in kept]
            return Checkpoint(kept, str(path), kind, tuple(others))
    return Checkpoint(weights, str(path), left_out=tuple(others))


def _is_dict(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(key, str) for key in found)


def seems_to_be(weights: Mapping[str, Tensor]) -> str:
    """A guess, for people, at the network that weights belong to; "" where there is none."""
    if any(key.startswith("layer1.0.conv1.") for key in weights):
        layers = [{key.split(".")[1] for key in weights if key.startswith(f"layer{n}.")} for n in range(1, 5)]
        block = "bottleneck" if any(".conv3." in key for key in weights) else "basic"
        return RESNETS.get((block, tuple(map(len, layers))), "a ResNet of its own make")
    return next((what for sign, what in SIGNS if any(re.match(sign, key) for key in weights)), "")


def _flaw(expected: Tensor, given: Tensor) -> str:
    """Why values of the right shape cannot be taken; "" where they can."""
    if given.layout != torch.strided or given.is_meta or given.is_quantized or given.is_complex():
        return "holds no plain numbers"
    if expected.is_floating_point() and not given.is_floating_point():
        return f"holds {str(given.dtype).removeprefix('torch.')} and must hold floating-point numbers"
    return "" if given.float().isfinite().all() else "holds values that are not finite"


def first_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """The first name, in the network's order, that is missing, or of another shape or kind; else the first too many."""
    for key, value in expected.items():
        if key not in given and not key.endswith("num_batches_tracked"):
            near = get_close_matches(key, given, 5, 0.6)
            return f"they lack '{key}'" + (f" (they have {', '.join(near)})" if near else "")
        if key in given and given[key].shape != value.shape:
            return f"'{key}' is {list(given[key].shape)} and must be {list(value.shape)}"
        if key in given and (flaw := _flaw(value, given[key])):
            return f"'{key}' {flaw}"
    return next((f"they have '{key}' too" for key in given if key not in expected), "")


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], what: str, origin: str = "the file") -> None:
    """Load a state dict; UserError with the first name or shape that differs, and what the file seems to be."""
    if difference := first_difference(module.state_dict(), weights):
        guess = seems_to_be(weights)
        seems = f"; {origin} seems to hold {guess}" if guess else f" ({origin})"
        raise UserError(f"the weights do not fit {what}: {difference}{seems}")
    state = OrderedDict(weights)
    # Files lose the version: MNASNet refuses to load without one, BatchNorm fills in what files before it lack.
    state._metadata = {"": {"version": getattr(module, "_version", None)}}  # type: ignore[attr-defined]
    module.load_state_dict(state)


def split_head(checkpoint: Checkpoint, path: str) -> tuple[dict[str, Tensor], dict[str, Tensor], str]:
    """Weights of the backbone, weights of the head at ``path``, and why there are none of the head ("": there are).

    What stands at the head's name in a self-supervised file projects features and names no classes.
    """
    top = f"{path}."
    own = {key.removeprefix(top): value for key, value in checkpoint.weights.items() if key.startswith(top)}
    rest = {key: value for key, value in checkpoint.weights.items() if not key.startswith(top)}
    if checkpoint.kind:
        return rest, {}, f"{checkpoint.origin} is a self-supervised {checkpoint.kind} checkpoint, without classes"
    weight = own.get("weight", torch.empty(0))
    if own.keys() <= {"weight", "bias"} and weight.ndim == 2 and len(weight):
        return rest, own, ""
    if own:
        return (
            rest,
            {},
            f"{checkpoint.origin} has something else than a linear layer at {path}, as self-supervised files do",
        )
    return rest, {}, f"{checkpoint.origin} holds no weights of a head ({path})"


def make_head(own: Mapping[str, Tensor], like: nn.Linear, what: str, origin: str) -> nn.Linear:
    """The head of a file with as many classes as it has there; without weights a new one of 1000 classes."""
    classes = len(own["weight"]) if own else SOURCE_CLASSES
    head = nn.Linear(like.in_features, classes, bias=like.bias is not None)
    if own:
        load_strictly(head, own, f"the head of {what}", origin)
    return head


def take_head(network: nn.Module, path: str) -> nn.Linear:
    """The head of a network, which then gives the head's input. The head is kept, not copied: nothing is lost."""
    head = cast(nn.Linear, network.get_submodule(path))
    network.set_submodule(path, nn.Identity())
    return head


def load_network(network: nn.Module, path: str, checkpoint: Checkpoint, what: str) -> tuple[nn.Linear, str]:
    """Fill a network strictly but for its head, which is taken out; gives the file's head, or a new one and why."""
    old = take_head(network, path)
    rest, own, reason = split_head(checkpoint, path)
    load_strictly(network, rest, what, checkpoint.origin)
    return make_head(own, old, what, checkpoint.origin), reason
