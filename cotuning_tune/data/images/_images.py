"""Images of one size: in memory, in a memory-mapped file, or decoded each time they are asked for.

Shapes: N images, B of a batch, S the stored side in pixels. Values are uint8, channels first.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import first_three
from cotuning_tune.data._examples import Examples
from cotuning_tune.data.images._decoding import CHANGED, ImageFiles, decoded_file, refuse_broken
from cotuning_tune.runs.snapshot import DataChanged


class SomeImages:
    """Images of one size, ``Examples`` with one class each; ``take`` gives uint8 [B, 3, S, S]."""

    def targets(self, labels: Sequence[int], positions: Sequence[int]) -> tuple[Tensor, np.ndarray | None]:
        return torch.tensor([labels[p] for p in positions], dtype=torch.int64), None

    def sizes(self, positions: Sequence[int]) -> None:
        """All are alike."""

    def pooled(self: Examples, other: Examples) -> "PooledImages":
        return PooledImages(self, other)


class ArrayImages(SomeImages):
    """Images in memory: ``pixels_N3SS`` uint8."""

    def __init__(self, pixels_N3SS: np.ndarray) -> None:
        if pixels_N3SS.dtype != np.uint8 or pixels_N3SS.ndim != 4 or pixels_N3SS.shape[1] != 3:
            raise ValueError(f"images must be uint8 [N, 3, S, S], not {pixels_N3SS.dtype} {pixels_N3SS.shape}")
        self.pixels_N3SS = pixels_N3SS
        self._digests: list[str] = []

    def __len__(self) -> int:
        return len(self.pixels_N3SS)

    def take(self, positions: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.pixels_N3SS[np.asarray(positions, dtype=np.int64)])

    def fingerprint(self) -> str:
        return content_key(np.asarray(self.pixels_N3SS))

    def digests(self) -> list[str]:
        if not self._digests:
            self._digests = [content_key(pixels_3SS) for pixels_3SS in self.pixels_N3SS]
        return self._digests


class DecodedImages(ArrayImages):
    """Image files decoded once, resized to S x S (aspect lost), in a memory-mapped file of the cache.

    Raises UserError that names the files which cannot be read, or the place where the room is lacking.
    """

    def __init__(self, files: ImageFiles) -> None:
        self._files = files
        path, self._content = decoded_file(files)
        super().__init__(np.load(path, mmap_mode="r", allow_pickle=False))

    def fingerprint(self) -> str:
        return self._content

    def digests(self) -> list[str]:
        return self._files.digests


class EachTimeImages(SomeImages):
    """Image files decoded whenever they are asked for, by as many threads as torch has; no pixel is stored.

    Pixels and fingerprint are those of ``DecodedImages``. ``take`` raises UserError for a broken file, DataChanged for
    one that is another than at the start.
    """

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files.names)

    def check(self) -> None:
        """Decode every file, once for this content and these rules. Raises UserError that names the broken ones."""
        if self._files.is_checked:
            return
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            said = pool.map(lambda p: (p, self._decode(p)), range(len(self)))
            self._refuse((p, d) for p, d in said if isinstance(d, str))
        self._files.keep_checked()

    def _decode(self, position: int) -> np.ndarray | str:
        return self._files.decode(position, self._files.digests[position])

    def _refuse(self, broken: Iterable[tuple[int, str]]) -> None:
        found = list(broken)
        if changed := [self._files.names[p] for p, reason in found if reason == CHANGED]:
            raise DataChanged(f"{first_three(changed)} in {self._files.root} changed since the start: put them back")
        refuse_broken(self._files, [f"{self._files.names[p]} ({reason})" for p, reason in found])

    def take(self, positions: Sequence[int]) -> Tensor:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            decoded = list(pool.map(self._decode, positions))
        self._refuse((p, d) for p, d in zip(positions, decoded, strict=True) if isinstance(d, str))
        return torch.from_numpy(np.stack([d for d in decoded if not isinstance(d, str)]))

    def fingerprint(self) -> str:
        return self._files.content()

    def digests(self) -> list[str]:
        return self._files.digests


class PooledImages(SomeImages):
    """The images of two collections of one size, one after the other."""

    def __init__(self, one: Examples, other: Examples) -> None:
        self._one, self._other = one, other

    def __len__(self) -> int:
        return len(self._one) + len(self._other)

    def take(self, positions: Sequence[int]) -> Tensor:
        count = len(self._one)
        mine = [place for place, p in enumerate(positions) if p < count]
        theirs = [place for place, p in enumerate(positions) if p >= count]
        if not theirs or not mine:
            part, offset = (self._other, count) if theirs else (self._one, 0)
            return part.take([p - offset for p in positions])
        parts = [self._one.take([positions[m] for m in mine]), self._other.take([positions[t] - count for t in theirs])]
        return torch.cat(parts)[torch.tensor(mine + theirs).argsort()]

    def fingerprint(self) -> str:
        return content_key(self._one.fingerprint(), self._other.fingerprint())

    def digests(self) -> list[str]:
        return [*self._one.digests(), *self._other.digests()]
