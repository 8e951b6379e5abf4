"""Images of one size, decoded once: in memory, or in a memory-mapped file shared by all processes.

Shapes: N images, B of a batch, S the stored side in pixels. Values are uint8, channels first.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cotuning_tune.cache import cached_file, content_key
from cotuning_tune.errors import UserError, first_line


class Images(Protocol):
    """N images of one size."""

    def __len__(self) -> int: ...

    def take(self, positions: Sequence[int]) -> Tensor:
        """The images at these positions, uint8 [B, 3, S, S], a copy."""
        ...

    def fingerprint(self) -> str:
        """A key of the content: other images have another one."""
        ...


class ArrayImages:
    """Images in memory: ``pixels_N3SS`` uint8."""

    def __init__(self, pixels_N3SS: np.ndarray) -> None:
        if pixels_N3SS.dtype != np.uint8 or pixels_N3SS.ndim != 4 or pixels_N3SS.shape[1] != 3:
            raise ValueError(f"images must be uint8 [N, 3, S, S], not {pixels_N3SS.dtype} {pixels_N3SS.shape}")
        self.pixels_N3SS = pixels_N3SS

    def __len__(self) -> int:
        return len(self.pixels_N3SS)

    def take(self, positions: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.pixels_N3SS[np.asarray(positions, dtype=np.int64)])

    def fingerprint(self) -> str:
        return content_key(np.asarray(self.pixels_N3SS))


class DecodedImages(ArrayImages):
    """Image files decoded once, resized to S x S (aspect lost), in a memory-mapped file of the cache.

    Raises UserError that names the files which cannot be read.
    """

    def __init__(self, root: Path, files: Sequence[str], size: int) -> None:
        stats = [(name, (root / name).stat()) for name in files]
        listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        self._key = content_key("decoded 1", str(root.resolve()), listing, size)
        path = cached_file("images", self._key, ".npy", lambda to: _decode_all(root, files, size, to))
        super().__init__(np.load(path, mmap_mode="r"))

    def fingerprint(self) -> str:
        return self._key


def _decode(path: Path, size: int) -> np.ndarray | str:
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I;16"):  # convert() cuts off at 255 instead of scaling
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(resized).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        return first_line(problem).replace(str(path), path.name)


def _decode_all(root: Path, files: Sequence[str], size: int, to: Path) -> None:
    array = np.lib.format.open_memmap(to, mode="w+", dtype=np.uint8, shape=(len(files), 3, size, size))
    broken: list[str] = []
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda name: _decode(root / name, size), files)
        for position, (name, pixels) in enumerate(zip(files, decoded, strict=True)):
            if isinstance(pixels, str):
                broken.append(f"{name} ({pixels})")
            else:
                array[position] = pixels
    array.flush()
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise UserError(
            f"{len(broken)} of {len(files)} images in {root} cannot be read: {', '.join(broken[:3])}{more};"
            " remove or replace them"
        )
