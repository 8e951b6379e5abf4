"""Images of the source classes: a folder of them, in the order of the source head, to calibrate it on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.images import _transforms
from cotuning_tune.data.images._decoding import ImageFiles
from cotuning_tune.data.images._files import Files
from cotuning_tune.data.images._images import EachTimeImages
from cotuning_tune.data.images.image_folder import ImageFolder


def source_files(root: str, classes: int, count: int) -> Files:
    """At most ``count`` files of a folder of classes, drawn by the hash of their names; sorted folders are classes.

    Raises UserError where the folder is missing, has splits, or another number of classes.
    """
    if (Path(root).expanduser() / "train").is_dir():
        raise UserError(
            f"source_val = {root} has train/: give the folder that holds the classes of the validation split"
        )
    folder = ImageFolder(ImageFolder.Config(root=root), 0)
    if len(folder.class_names) != classes:
        raise UserError(f"source_val = {root} has {len(folder.class_names)} class folders, the source head {classes}")
    whole = folder.whole()
    splits = [whole] if whole else [split for name in ("train", "test") if (split := folder.files(name))]
    pairs = [pair for split in splits for pair in zip(split.names, split.labels, strict=True)]
    chosen = sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).hexdigest())[:count]
    return Files(folder.root, [name for name, _ in chosen], [label for _, label in chosen])


def decoded_batches(files: Files, resize: int, size: int, batch_size: int = 64) -> Iterator[Tensor]:
    """Centre crops uint8 [B, 3, C, C] of files resized to ``resize`` pixels, in order; nothing is kept on disk."""
    images = EachTimeImages(ImageFiles(files.root, files.names, resize))
    for start in range(0, len(images), batch_size):
        yield _transforms.centre_crop(images.take(range(start, min(start + batch_size, len(images)))), size)
