"""Small copies of the published data sets, in the folders and files in which their owners publish them.

``MINIATURES[kind](root, seed)`` writes one below ``root`` and returns the options of its data set. Each has three
classes of the real set; an image shows the colour of its class under noise, so that a label can be checked.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

COLOURS = ((200, 40, 40), (40, 180, 40), (40, 60, 200))
TRAIN, VAL, TEST = 6, 2, 3
Options = dict[str, object]
CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")


def draw(path: Path, label: int, rng: np.random.Generator) -> None:
    """A small image file in the colour of its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = rng.integers(12, 24, 2)
    pixels = np.clip(np.asarray(COLOURS[label]) + rng.normal(0, 20, (*side, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_lines(path: Path, lines: Iterable[object]) -> None:
    """A text file, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cub200(root: Path, seed: int = 0) -> Options:
    """CUB_200_2011/: numbered lists, training and test images mixed."""
    base, rng = root / "CUB_200_2011", np.random.default_rng(seed)
    rows = [(name, label, n < TRAIN) for label, name in enumerate(BIRDS) for n in rng.permutation(TRAIN + TEST)]
    names = [f"{name}/{name[4:]}_{number:04d}_{796000 + number}.jpg" for number, (name, _, _) in enumerate(rows)]
    for name, (_, label, _) in zip(names, rows, strict=True):
        draw(base / "images" / name, label, rng)
    write_lines(base / "images.txt", (f"{n} {name}" for n, name in enumerate(names, 1)))
    write_lines(base / "image_class_labels.txt", (f"{n} {label + 1}" for n, (_, label, _) in enumerate(rows, 1)))
    write_lines(base / "train_test_split.txt", (f"{n} {int(train)}" for n, (_, _, train) in enumerate(rows, 1)))
    write_lines(base / "classes.txt", (f"{n} {name}" for n, name in enumerate(BIRDS, 1)))
    return {"root": str(root)}


def coco70(root: Path, seed: int = 0) -> Options:
    """COCO70/: three lists of file and class number from 0."""
    base, rng = root / "COCO70", np.random.default_rng(seed)
    for part, count in (("train", TRAIN), ("dev", VAL), ("test", TEST)):
        rows = [(f"{part}/{label}_{n:06d}.jpg", label) for n in range(count) for label in range(3)]
        for name, label in rows:
            draw(base / name, label, rng)
        write_lines(base / f"{part}.txt", (f"{name} {label}" for name, label in rows))
    write_lines(base / "classes.txt", ("person", "bicycle", "traffic light"))
    return {"root": str(root)}


def struct_array(rows: list[dict[str, object]]) -> np.ndarray:
    """A MATLAB struct array, 1 x N."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        array[0, place] = tuple(row.values())
    return array


def stanford_cars(root: Path, seed: int = 0) -> Options:
    """stanford_cars/: the devkit, the labels of the test part beside it."""
    base, rng = root / "stanford_cars", np.random.default_rng(seed)
    devkit = base / "devkit"
    devkit.mkdir(parents=True)
    places = {"train": devkit / "cars_train_annos.mat", "test": base / "cars_test_annos_withlabels.mat"}
    for part, count in (("train", TRAIN), ("test", TEST)):
        labels = rng.permutation(np.arange(3).repeat(count)).tolist()
        box = dict.fromkeys(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), np.uint16(1))
        rows = [box | {"class": np.uint8(label + 1), "fname": f"{n:05d}.jpg"} for n, label in enumerate(labels, 1)]
        for row, label in zip(rows, labels, strict=True):
            draw(base / f"cars_{part}" / str(row["fname"]), label, rng)
        savemat(places[part], {"annotations": struct_array(rows)})
    savemat(devkit / "cars_meta.mat", {"class_names": np.array([CARS], dtype=object)})
    return {"root": str(root)}


MINIATURES: dict[str, Callable[[Path, int], Options]] = {
    "cub200": cub200,
    "coco70": coco70,
    "stanford_cars": stanford_cars,
}
