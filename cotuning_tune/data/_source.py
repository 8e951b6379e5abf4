"""Images of the source classes: a folder of them, in the order of the source head, to calibrate it on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.data import _transforms
from cotuning_tune.data._files import Files
from cotuning_tune.data._images import _decode
from cotuning_tune.data.image_folder import ImageFolder
from cotuning_tune.errors import UserError


def source_files(root: str, classes: int, count: int) -> Files:
    """At most ``count`` files of a folder of classes, drawn by the hash of their names; sorted folders are classes.

    Raises UserError where the folder is missing, has parts, or another number of classes.
    """
    if (Path(root).expanduser() / "train").is_dir():
        raise UserError(
            f"source_val = {root} has train/: give the folder that holds the classes of the validation part"
        )
    folder = ImageFolder(ImageFolder.Config(root=root), 0)
    if len(folder.class_names) != classes:
        raise UserError(f"source_val = {root} has {len(folder.class_names)} class folders, the source head {classes}")
    parts = [part for name in ("train", "test") if (part := folder.files(name))]
    pairs = [pair for part in parts for pair in zip(part.names, part.labels, strict=True)]
    chosen = sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).hexdigest())[:count]
    return Files(folder.root, [name for name, _ in chosen], [label for _, label in chosen])


def decoded_batches(files: Files, resize: int, size: int, batch_size: int = 64) -> Iterator[Tensor]:
    """Centre crops uint8 [B, 3, C, C] of files resized to ``resize`` pixels, in order; nothing is kept on disk."""
    for start in range(0, len(files.names), batch_size):
        decoded = [(name, _decode(files.root / name, resize)) for name in files.names[start : start + batch_size]]
        for name, pixels in decoded:
            if isinstance(pixels, str):
                raise UserError(f"{files.root / name} cannot be read ({pixels}); remove or replace it")
        yield _transforms.centre_crop(torch.from_numpy(np.stack([pixels for _, pixels in decoded])), size)  # type: ignore[misc]
