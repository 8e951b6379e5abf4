"""A retrained model as a torch module that takes images as they lie on a disk.

Shapes: B images of a batch, C the side the network sees, T target classes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import Decoding, centre_crop, decoded, shrunk
from cotuning_tune.data import TaskConfig
from cotuning_tune.export.chosen import Winner
from cotuning_tune.export.predict import BATCH, softmax
from cotuning_tune.export.torch_model import read_safetensors, rebuilt
from cotuning_tune.runs.snapshot import read_classes

Picture = Union[str, Path, Image.Image]  # noqa: UP007 - named in signatures


@dataclass(frozen=True)
class Labelled:
    """What a model says of an image: its class, how probable that is, and the probability of every class."""

    image: str
    label: str
    probability: float
    probabilities: Mapping[str, float]


class Model(nn.Module):
    """Backbone and target head on the CPU, in evaluation mode; as ``Model(images)`` the logits [B, T].

    Images are uint8 [B, 3, C, C] in grey levels, as ``transform`` gives them: the network normalises them itself.
    ``classes``: their names, in the order of the logits; ``size`` and ``resize``: the sides of what the network sees
    and of what that is cut from.
    """

    def __init__(self, network: nn.Module, classes: Iterable[str], config: TaskConfig) -> None:
        super().__init__()
        self.network, self.classes = network, tuple(classes)
        self.size, self.resize, self._how = config.size, config.resize, config.decoding
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, T] of images uint8 [B, 3, C, C]."""
        logits_BT: Tensor = self.network(images)
        return logits_BT

    def transform(self, image: Picture) -> Tensor:
        """What the network sees of an image, or of its file: uint8 [3, C, C], as in the test evaluation.

        Raises UserError where it cannot be read.
        """
        return torch.from_numpy(np.ascontiguousarray(centre_crop(_stored(image, self.resize, self._how), self.size)))

    @torch.no_grad()
    def predict(self, images: Iterable[Picture] | Picture) -> list[Labelled]:
        """The class of each image, in their order. Raises UserError for one that cannot be read."""
        every = [images] if isinstance(images, (str, Path, Image.Image)) else list(images)
        found: list[Labelled] = []
        for start in range(0, len(every), BATCH):
            part = every[start : start + BATCH]
            probabilities_BT = softmax(self(torch.stack([self.transform(image) for image in part])).float().numpy())
            found += [self._labelled(one, row_T) for one, row_T in zip(part, probabilities_BT, strict=True)]
        return found

    def _labelled(self, image: Picture, probabilities_T: np.ndarray) -> Labelled:
        best = int(probabilities_T.argmax())
        each = dict(zip(self.classes, map(float, probabilities_T), strict=True))
        name = "" if isinstance(image, Image.Image) else str(image)
        return Labelled(name, self.classes[best], float(probabilities_T[best]), each)


def _stored(image: Picture, side: int, how: Decoding) -> np.ndarray:
    if isinstance(image, Image.Image):
        return shrunk(image, side, how)
    try:
        found = decoded(Path(image).expanduser().read_bytes(), side, how)
    except OSError as problem:
        raise UserError(f"{image} cannot be read: {problem.strerror}") from None
    if isinstance(found, str):
        raise UserError(f"{image} cannot be read: {found}")
    return found


def load(winner: Winner) -> Model:
    """The model of a retrained seed, from the run's files alone. Raises UserError, for one of texts too."""
    spec: dict[str, Any] = winner.spec
    if winner.study.examples != "images":
        raise UserError(
            f"{winner.title} reads texts: cotuning-tune export {winner.run.path} --study {winner.study.name}"
            " --format transformers writes it for transformers to load"
        )
    weights = read_safetensors(winner.folder.model.read_bytes())
    own = {key: value for key, value in weights.items() if not key.startswith("source_head.")}
    return Model(
        rebuilt(spec["backbone"], own), read_classes(winner.run, spec["task"]), TaskConfig(**spec["task_config"])
    )
