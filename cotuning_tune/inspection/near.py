"""Near-duplicates: images of two splits that look the same, as a rescaled or re-compressed copy does.

By the perceptual hash of the library ``imagehash`` (the extra ``near``): the signs of 64 low frequencies of the grey
image. Two images count as one where at most ``DISTANCE`` of the 64 differ. Mirrored and cropped copies are not found,
and flat images (``FLAT``) are not compared: of these the hash holds noise alone.

Shapes: N images of one split, M of another, 64 the hash's bits; B of a block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from PIL import Image

from cotuning_tune.data import SPLITS

BITS = 64
DISTANCE = 4
FLAT = 4.0  # standard deviation in grey levels
BLOCK = 512
NOT_COUNTED = "near-duplicates in two splits are not counted: that needs imagehash, pip install 'cotuning_tune[near]'"


@dataclass(frozen=True)
class Near:
    """An image of a split, by position, that looks like one of an earlier split; ``distance`` in bits."""

    split: str
    position: int
    other: str
    other_position: int
    distance: int


def can_compare() -> bool:
    """Whether the library is there."""
    return find_spec("imagehash") is not None


def look(image: Image.Image) -> bytes:
    """The hash of an image, 8 bytes; none of a flat one."""
    import imagehash

    grey = image.convert("L")
    if np.asarray(grey.resize((32, 32), Image.Resampling.BOX)).std() < FLAT:
        return b""
    return np.packbits(imagehash.phash(grey).hash).tobytes()


def _signs(looks: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images that have a hash, int64 [N], and the bits of each as -1 and 1, float32 [N, 64]."""
    there = np.array([position for position, found in enumerate(looks) if found], dtype=np.int64)
    packed = np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(-1, BITS // 8)
    return there, np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def nearest(looks: Sequence[bytes], others: Sequence[bytes]) -> list[tuple[int, int, int]]:
    """Of each image that has one the nearest among the others within ``DISTANCE``: its position, that one's, the bits.

    A product of matrices a block: 40,000 images and 10,000 others take two seconds on two cores.
    """
    (here, mine_N64), (there, theirs_M64) = _signs(looks), _signs(others)
    found = []
    for start in range(0, len(here) if len(there) else 0, BLOCK):
        equal_BM = mine_N64[start : start + BLOCK] @ theirs_M64.T  # equal bits less the others
        best_B = equal_BM.argmax(1)
        bits_B = (BITS - equal_BM[np.arange(len(best_B)), best_B]) / 2
        for row in np.flatnonzero(bits_B <= DISTANCE):
            found.append((int(here[start + row]), int(there[best_B[row]]), int(bits_B[row])))
    return found


def near_duplicates(
    looks: Mapping[str, Sequence[bytes]], same: Mapping[str, frozenset[int] | set[int]] | None = None
) -> list[Near]:
    """The validation and test images that look like one of an earlier split, each once, with the nearest.

    ``same``: positions by split that are left out, as those whose very bytes stand in another split.
    """
    left = {
        split: [b"" if position in (same or {}).get(split, ()) else found for position, found in enumerate(of_split)]
        for split, of_split in looks.items()
    }
    order = [split for split in SPLITS if split in looks]
    found: dict[tuple[str, int], Near] = {}
    for number, split in enumerate(order):
        for other in order[:number]:
            for position, there, bits in nearest(left[split], looks[other]):
                known = found.get((split, position))
                if known is None or bits < known.distance:
                    found[split, position] = Near(split, position, other, there, bits)
    return list(found.values())


def near_lines(found: Sequence[Near], names: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each split with such images: how many, with an example. ``names``: of the images, by split."""
    lines = []
    for split in SPLITS:
        if mine := [near for near in found if near.split == split]:
            first = mine[0]
            example = f"{names[split][first.position]} and {names[first.other][first.other_position]}"
            others = " or ".join(dict.fromkeys(near.other for near in mine))
            lines.append(
                f"{len(mine)} of {len(names[split])} {split} images look like images of {others} (at most {DISTANCE} of"
                f" {BITS} bits of their perceptual hash differ): {example}{', ...' if len(mine) > 1 else ''}"
            )
    return lines
