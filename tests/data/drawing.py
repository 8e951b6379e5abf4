"""Small images in the colour of their class, of which the data sets of the tests are made."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((200, 40, 40), (40, 180, 40), (40, 60, 200))
TRAIN, VAL, TEST = 6, 2, 3
COUNTS = {"train": TRAIN, "val": VAL, "test": TEST}
PARTED = {"train": TRAIN, "test": TEST}
WHOLE = 10

Options = dict[str, object]


def draw(path: Path, label: int, rng: np.random.Generator) -> None:
    """A small image file in the colour of its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = rng.integers(12, 24, 2)
    pixels = np.clip(np.asarray(COLOURS[label]) + rng.normal(0, 20, (*side, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def mixed(count: int, rng: np.random.Generator) -> list[int]:
    """``count`` labels of each class, in any order."""
    return rng.permutation(np.arange(len(COLOURS)).repeat(count)).tolist()


def write_lines(path: Path, lines: Iterable[object]) -> None:
    """A text file, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_classes(folder: Path, classes: Iterable[str], pattern: str, count: int, rng: np.random.Generator) -> None:
    """``count`` images in each class folder; ``pattern`` makes a name from the class and a number."""
    for label, name in enumerate(classes):
        for number in range(1, count + 1):
            draw(folder / name / pattern.format(name.split("/")[-1], number), label, rng)
