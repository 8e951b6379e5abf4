"""Classes of the images of a folder, by an exported model alone. Imports torch only where the model needs it.

Shapes: B images of a batch, C the side the network sees, T target classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.parallel import on_threads
from cotuning_tune.base.pixels import ENDINGS, Decoding, centre_crop, decoded
from cotuning_tune.base.walk import walk
from cotuning_tune.export.bundle import Bundle, Classify
from cotuning_tune.export.onnx_model import open_onnx

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """An image's path below the folder and the probability of each class; or ``problem``: why it has none."""

    path: str
    probabilities_T: np.ndarray
    problem: str = ""


def open_model(data: bytes, description: dict[str, Any]) -> Classify:
    """The model of a file's content. Raises UserError where it cannot be read or a package is missing."""
    if description["format"] == "onnx":
        return open_onnx(data, inside=bool(description["preprocessing"].get("inside")))
    try:
        from cotuning_tune.export.torch_model import open_torch
    except ImportError as problem:
        raise UserError(
            f"a {description['format']} model needs {problem.name}, which is not installed;"
            " one exported with --format onnx needs onnxruntime alone"
        ) from None
    return open_torch(data, description)


def images_below(folder: Path) -> list[Path]:
    """Every image file below a folder, known by its ending, in the order of the names; UserError for none."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = walk(folder).images
    if not found:
        raise UserError(f"{folder} holds no image (known: {' '.join(ENDINGS)})")
    return [folder / name for name in found]


def pixels_of(path: Path, preprocessing: Mapping[str, Any]) -> np.ndarray | str:
    """What the model is given of an image file, uint8 [3, C, C], or why nothing can be seen."""
    how = Decoding(**{item.name: preprocessing.get(item.name, item.default) for item in fields(Decoding)})
    try:
        image = decoded(path.read_bytes(), preprocessing["resize"], how)
    except OSError as problem:
        return str(problem.strerror)
    return image if isinstance(image, str) else seen(image, preprocessing)


def seen(image_3SS: np.ndarray, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """What the model is given of a stored image: its middle uint8 [3, C, C]; all of it where the model cuts itself."""
    return image_3SS if preprocessing.get("inside") else centre_crop(image_3SS, preprocessing["crop"])


def softmax(logits_BT: np.ndarray) -> np.ndarray:
    """Probabilities [B, T] in float64."""
    shifted_BT = logits_BT.astype(np.float64) - logits_BT.max(axis=1, keepdims=True)
    e_BT = np.exp(shifted_BT)
    return np.asarray(e_BT / e_BT.sum(axis=1, keepdims=True))


def _batch(classify: Classify, given: list[np.ndarray | str]) -> Iterator[np.ndarray]:
    """The probabilities of those that can be seen."""
    images = [image for image in given if not isinstance(image, str)]
    if images:
        yield from softmax(classify(np.stack(images)))


def predictions(bundle: Bundle, folder: Path) -> Iterator[Prediction]:
    """A prediction for each image below the folder, or the reason why it cannot be read.

    Raises UserError at the first one, where the export cannot be used or there is no image.
    """
    description = bundle.read()
    paths = images_below(folder)
    classify = open_model(bundle.read_model(description), description)
    for start in range(0, len(paths), BATCH):
        chosen = paths[start : start + BATCH]
        images = list(on_threads(lambda path: pixels_of(path, description["preprocessing"]), chosen))
        found = _batch(classify, images)
        for path, image in zip(chosen, images, strict=True):
            name = path.relative_to(folder).as_posix().encode(errors="surrogateescape").decode(errors="replace")
            if isinstance(image, str):
                yield Prediction(name, np.empty(0), image)
            else:
                yield Prediction(name, next(found))


def table(bundle: Bundle, folder: Path, problems: list[str]) -> Iterator[list[str]]:
    """The lines of the table, the header first: path, class, its probability, and under ``p(X)`` that of class X.

    An image that cannot be read has no line and is added to ``problems``. Raises UserError, before the header, where
    there is nothing else, and where ``predictions`` does.
    """
    classes, begun = bundle.read()["classes"], False
    for found in predictions(bundle, folder):
        if found.problem:
            problems.append(f"{found.path} ({found.problem})")
            continue
        if not begun:
            yield ["path", "class", "probability", *(f"p({name})" for name in classes)]
            begun = True
        best = int(found.probabilities_T.argmax())
        shown = [f"{probability:.6f}" for probability in found.probabilities_T]
        yield [found.path, classes[best], shown[best], *shown]
    if not begun:
        raise UserError(f"no image in {folder} can be read: {', '.join(problems)}")
