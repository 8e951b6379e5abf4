"""The network of an export in torch: target network alone, from and to its files.

Shapes: B images of a batch, C the side the network sees, D features, T target classes.
"""

import copy
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cotuning_tune import models
from cotuning_tune.base.archives import refuse_growing
from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.export import OF_LIBRARIES
from cotuning_tune.export.bundle import Classify
from cotuning_tune.models import Backbone, NeighbourHead

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Classifier(nn.Module):
    """Backbone and target head; the source head and what a method adds have no part in classifying."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, T] of images [B, 3, C, C] in grey levels; no maps are taken on the way."""
        backbone = self.backbone
        logits_BT: Tensor = self.head(backbone.run(backbone.normalised(images), 0, len(backbone.chain)))
        return logits_BT


def read_safetensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file's content, without the package: length of the header, JSON, raw data.

    Raises UserError where it is damaged.
    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        content = memoryview(data)[start:]
        return {key: _tensor(content, entry) for key, entry in header.items() if key != "__metadata__"}
    except (ValueError, KeyError, TypeError, RuntimeError) as problem:
        raise UserError(f"the safetensors file is damaged: {first_line(problem)}") from None


def _tensor(content: memoryview, entry: Mapping[str, Any]) -> Tensor:
    first, last = entry["data_offsets"]
    own = bytearray(content[first:last])
    flat = torch.frombuffer(own, dtype=DTYPES[entry["dtype"]]) if own else torch.empty(0, dtype=DTYPES[entry["dtype"]])
    return flat.reshape(entry["shape"])


def rebuilt(backbone: str, weights: Mapping[str, Tensor]) -> Classifier:
    """The classifier with these weights on a backbone made anew. Raises UserError where they do not fit it."""
    source = models.pretrained(backbone, "random")
    try:
        head = _head_of(weights, source.source_head.in_features)
        network = Classifier(copy.deepcopy(source.backbone), head)
        network.load_state_dict(dict(weights))
    except (RuntimeError, KeyError, ValueError) as problem:
        lines = str(problem).splitlines()
        raise UserError(f"the weights do not fit {backbone}: {lines[-1].strip()}") from None
    return network


def _head_of(weights: Mapping[str, Tensor], features: int) -> nn.Module:
    """A head of the kind and size that the weights are of, to load them into."""
    if "head.rule" not in weights:
        return nn.Linear(features, len(weights.get("head.bias", ())))
    k, temperature = weights["head.rule"].tolist()
    images, classes = len(weights["head.labels_N"]), len(weights["head.uniform_T"])
    return NeighbourHead(images, features, classes, int(k), temperature)


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Torch calls TorchScript deprecated at each use, and warns of traced numbers: the trace is checked instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*is deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


def open_torch(data: bytes, description: Mapping[str, Any]) -> Classify:
    """The model of a safetensors or TorchScript file's content, or of a library's, on the CPU. Raises UserError."""
    if description["format"] in OF_LIBRARIES:
        from cotuning_tune.export.libraries import loaded

        return classify_with(loaded(read_safetensors(data), description))
    if description["format"] == "safetensors":
        return classify_with(rebuilt(description["backbone"], read_safetensors(data)))
    with quiet_torchscript():
        try:
            refuse_growing(io.BytesIO(data))
            return classify_with(torch.jit.load(io.BytesIO(data), map_location="cpu"))
        except (RuntimeError, ValueError) as problem:
            raise UserError(f"torch {torch.__version__} cannot read the model: {first_line(problem)}") from None


def classify_with(network: nn.Module) -> Classify:
    """The network as a function of arrays, laid out in memory as in the project's own evaluation."""
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def classify(images_B3CC: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(np.ascontiguousarray(images_B3CC))
        logits: Tensor = network(images.contiguous(memory_format=torch.channels_last))
        return logits.float().numpy()

    return classify
