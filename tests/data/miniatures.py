"""Small copies of the published data sets, in the folders and files in which their owners publish them.

``MINIATURES[kind](root, seed)`` writes one below ``root`` and returns the options of its data set. Each has three
classes of the real set; an image shows the colour of its class under noise, so that a label can be checked.
"""

import json
import pickle
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from cotuning_tune import data
from cotuning_tune.data import DataSet, TaskConfig
from cotuning_tune.hyper import build
from tests.data.drawing import (
    COLOURS,
    COUNTS,
    PARTED,
    TEST,
    TRAIN,
    VAL,
    WHOLE,
    Options,
    draw,
    mixed,
    write_classes,
    write_lines,
)
from tests.data.own_formats import OWN, csv_list, zip_of_folder

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
DOGS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02096294-Australian_terrier")
PETS = ("Abyssinian", "american_bulldog", "american_pit_bull_terrier")
SCENES = ("a/abbey", "b/balcony/interior", "z/zoo")


def struct_array(rows: list[dict[str, Any]]) -> np.ndarray:
    """A MATLAB struct array, 1 x N."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        array[0, place] = tuple(row.values())
    return array


def cells(texts: Iterable[str]) -> np.ndarray:
    """A MATLAB study array of texts, N x 1."""
    return np.array([[text] for text in texts], dtype=object)


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


def coco70(root: Path, seed: int = 0, prefix: bool = True) -> Options:
    """COCO70/: three lists of file and class number from 0; ``prefix``: the file names say their split."""
    base, rng = root / "COCO70", np.random.default_rng(seed)
    for split, count in (("train", TRAIN), ("dev", VAL), ("test", TEST)):
        rows = [(f"{label}_{n:06d}.jpg", label) for n, label in enumerate(mixed(count, rng))]
        for name, label in rows:
            draw(base / split / name, label, rng)
        write_lines(
            base / f"{split}.txt", (f"{split}/{name} {label}" if prefix else f"{name} {label}" for name, label in rows)
        )
    write_lines(base / "classes.txt", ("person", "bicycle", "traffic light"))
    return {"root": str(root)}


def stanford_cars(root: Path, seed: int = 0, nested: bool = False) -> Options:
    """stanford_cars/: the devkit; the labels of the test split beside it, or ``nested`` in it, folders doubled."""
    base, rng = root / "stanford_cars", np.random.default_rng(seed)
    devkit = base / "devkit"
    devkit.mkdir(parents=True)
    places = {"train": devkit, "test": devkit if nested else base}
    for split, count in PARTED.items():
        name = "cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
        box = dict.fromkeys(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), np.uint16(1))
        labels = mixed(count, rng)
        rows = [box | {"class": np.uint8(label + 1), "fname": f"{n:05d}.jpg"} for n, label in enumerate(labels, 1)]
        for row, label in zip(rows, labels, strict=True):
            draw(base / f"cars_{split}" / (f"cars_{split}" if nested else ".") / row["fname"], label, rng)
        savemat(places[split] / name, {"annotations": struct_array(rows)})
    savemat(devkit / "cars_meta.mat", {"class_names": cells(CARS).T})
    return {"root": str(root)}


def stanford_cars_list(root: Path, seed: int = 0) -> Options:
    """The single list cars_annos.mat of all images in car_ims/."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, label in enumerate(mixed(TRAIN + TEST, rng), 1):
        name = f"car_ims/{number:06d}.jpg"
        draw(root / name, label, rng)
        test = sum(row["class"] == label + 1 for row in rows) >= TRAIN
        box = dict.fromkeys(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), np.uint16(1))
        rows.append({"relative_im_path": name} | box | {"class": np.uint8(label + 1), "test": np.uint8(test)})
    savemat(root / "cars_annos.mat", {"annotations": struct_array(rows), "class_names": cells(CARS).T})
    return {"root": str(root)}


def stanford_cars_folders(root: Path, seed: int = 0) -> Options:
    """Packed anew: car_data/car_data/train/CLASS, and test; no slash can stand in a folder's name."""
    rng = np.random.default_rng(seed)
    names = sorted(name.replace("/", "-") for name in CARS)
    for split, count in PARTED.items():
        write_classes(root / "car_data" / "car_data" / split, names, f"{split}_{{1:05d}}.jpg", count, rng)
    return {"root": str(root)}


def fgvc_aircraft(root: Path, seed: int = 0) -> Options:
    """fgvc-aircraft-2013b/data/: lists of image and variant, whose name may hold spaces; a white strip below."""
    base, rng = root / "fgvc-aircraft-2013b" / "data", np.random.default_rng(seed)
    variants = ("707-320", "Boeing 717", "F/A-18")
    lists: dict[str, list[str]] = {}
    for split, count in {"train": TRAIN - VAL, "val": VAL, "test": TEST}.items():
        for label in mixed(count, rng):
            key = f"{1025794 + sum(map(len, lists.values()))}"
            lists.setdefault(split, []).append(f"{key} {variants[label]}")
            pixels = np.full((60, 40, 3), 255, np.uint8)
            pixels[:40] = np.clip(COLOURS[label] + rng.integers(-9, 10, (40, 40, 3)), 0, 255)
            (base / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(base / "images" / f"{key}.jpg", quality=95)
    for split, lines in (lists | {"trainval": sorted(lists["train"] + lists["val"])}).items():
        write_lines(base / f"images_variant_{split}.txt", lines)
    write_lines(base / "variants.txt", variants)
    return {"root": str(root)}


def stanford_dogs(root: Path, seed: int = 0) -> Options:
    """Images/ and lists/ of MATLAB study arrays, class numbers from 1."""
    rng = np.random.default_rng(seed)
    (root / "lists").mkdir(parents=True)
    for split, count in PARTED.items():
        labels = mixed(count, rng)
        names = [f"{DOGS[label]}/{DOGS[label][:9]}_{len(split)}{n:03d}.jpg" for n, label in enumerate(labels)]
        for name, label in zip(names, labels, strict=True):
            draw(root / "Images" / name, label, rng)
        lists = {"file_list": cells(names), "annotation_list": cells(name[:-4] for name in names)}
        savemat(root / "lists" / f"{split}_list.mat", lists | {"labels": np.array(labels, float)[:, None] + 1})
    return {"root": str(root)}


def oxford_pets(root: Path, seed: int = 0) -> Options:
    """oxford-iiit-pet/: annotations/trainval.txt and test.txt, images/."""
    base, rng = root / "oxford-iiit-pet", np.random.default_rng(seed)
    for split, count in {"trainval": TRAIN, "test": TEST}.items():
        rows = [(f"{PETS[label]}_{n + len(split)}{len(split)}", label) for n, label in enumerate(mixed(count, rng))]
        for name, label in rows:
            draw(base / "images" / f"{name}.jpg", label, rng)
        write_lines(
            base / "annotations" / f"{split}.txt", (f"{name} {label + 1} 2 {label + 1}" for name, label in rows)
        )
    return {"root": str(root)}


def flowers102(root: Path, seed: int = 0) -> Options:
    """flowers-102/: labels by number of the image, and three lists of numbers, all from 1."""
    base, rng = root / "flowers-102", np.random.default_rng(seed)
    labels = np.repeat(np.arange(3, dtype=np.uint8), sum(COUNTS.values()))
    for number, label in enumerate(labels, 1):
        draw(base / "jpg" / f"image_{number:05d}.jpg", int(label), rng)
    savemat(base / "imagelabels.mat", {"labels": labels[None] + 1})
    numbers = [rng.permutation(np.flatnonzero(labels == label) + 1) for label in range(3)]
    ends = np.cumsum([0, *COUNTS.values()])
    taken = [np.concatenate([n[start:end] for n in numbers]) for start, end in pairwise(ends)]
    savemat(
        base / "setid.mat",
        dict(zip(("trnid", "valid", "tstid"), (t[None].astype(np.uint16) for t in taken), strict=True)),
    )
    return {"root": str(root)}


def dtd(root: Path, seed: int = 0) -> Options:
    """dtd/dtd/: ten partitions of the same images into three splits."""
    base, rng = root / "dtd" / "dtd", np.random.default_rng(seed)
    classes = ("banded", "blotchy", "zigzagged")
    write_classes(base / "images", classes, "{0}_{1:04d}.jpg", sum(COUNTS.values()), rng)
    for partition in range(1, 11):
        lists: dict[str, list[str]] = {}
        for name in classes:
            numbers = rng.permutation(sum(COUNTS.values())) + 1
            ends = np.cumsum(list(COUNTS.values()))[:-1]
            for split, chosen in zip(COUNTS, np.split(numbers, ends), strict=True):
                lists.setdefault(split, []).extend(f"{name}/{name}_{number:04d}.jpg" for number in chosen)
        for split, lines in lists.items():
            write_lines(base / "labels" / f"{split}{partition}.txt", lines)
    return {"root": str(root)}


def food101(root: Path, seed: int = 0) -> Options:
    """food-101/: meta/ with the lists as text and as JSON, images/ without ending in the lists."""
    base, rng = root / "food-101", np.random.default_rng(seed)
    classes = ("apple_pie", "baby_back_ribs", "waffles")
    write_classes(base / "images", classes, "{1}.jpg", TRAIN + TEST, rng)
    for split, numbers in {"train": range(1, TRAIN + 1), "test": range(TRAIN + 1, TRAIN + TEST + 1)}.items():
        named = {name: [f"{name}/{number}" for number in numbers] for name in classes}
        write_lines(base / "meta" / f"{split}.txt", (name for names in named.values() for name in names))
        (base / "meta" / f"{split}.json").write_text(json.dumps(named))
    write_lines(base / "meta" / "classes.txt", classes)
    return {"root": str(root)}


def caltech101(root: Path, seed: int = 0) -> Options:
    """caltech101/101_ObjectCategories/: folders of classes, and the clutter."""
    folder = root / "caltech101" / "101_ObjectCategories"
    rng = np.random.default_rng(seed)
    write_classes(folder, ("accordion", "airplanes", "yin_yang"), "image_{1:04d}.jpg", WHOLE, rng)
    write_classes(folder, ("BACKGROUND_Google",), "image_{1:04d}.jpg", 2, rng)
    return {"root": str(root)}


def eurosat(root: Path, seed: int = 0) -> Options:
    """eurosat/2750/: folders of classes."""
    classes = ("AnnualCrop", "Forest", "SeaLake")
    write_classes(root / "eurosat" / "2750", classes, "{0}_{1}.jpg", WHOLE, np.random.default_rng(seed))
    return {"root": str(root)}


def sun397(root: Path, seed: int = 0, lists: bool = True) -> Options:
    """SUN397/: nested folders of classes; ``lists``: ten partitions of some of the images."""
    base, rng = root / "SUN397", np.random.default_rng(seed)
    write_classes(base, SCENES, "sun_{0}aa{1:02d}.jpg", WHOLE, rng)
    write_lines(base / "ClassName.txt", (f"/{scene}" for scene in SCENES))
    for partition in range(1, 11) if lists else ():
        order = {scene: rng.permutation(WHOLE) + 1 for scene in SCENES}
        for word, chosen in {"Training": slice(TRAIN), "Testing": slice(TRAIN, TRAIN + TEST)}.items():
            lines = [f"/{s}/sun_{s.split('/')[-1]}aa{n:02d}.jpg" for s in SCENES for n in order[s][chosen]]
            write_lines(root / "SUN397" / "Partitions" / f"{word}_{partition:02d}.txt", lines)
    return {"root": str(root)}


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes texts and bytes alike, as Python 2 did: so the published batches are."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]  # noqa: RUF012

    def save_text(self, text: str | bytes) -> None:
        raw = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def write_batch(path: Path, content: dict[str, Any]) -> None:
    """A batch as Python 2 and its numpy pickled it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def write_cifar(root: Path, seed: int, batches: dict[str, int], key: str, meta: tuple[str, str]) -> Options:
    """Batches of rows of 3072 values, channel after channel, with ``batches[name]`` images a class."""
    rng = np.random.default_rng(seed)
    for name, count in batches.items():
        labels = mixed(count, rng)
        pixels = np.asarray(COLOURS)[labels][:, :, None] + rng.normal(0, 20, (len(labels), 3, 1024))
        rows = np.clip(pixels, 0, 255).astype(np.uint8).reshape(len(labels), 3072)
        write_batch(root / name, {"batch_label": name, key: labels, "data": rows})
    write_batch(root / meta[0], {meta[1]: ["airplane", "automobile", "bird"]})
    return {"root": str(root.parent)}


def cifar10(root: Path, seed: int = 0) -> Options:
    """cifar-10-batches-py/: five training batches and one to test."""
    batches = {f"data_batch_{n}": 2 if n == 1 else 1 for n in range(1, 6)} | {"test_batch": TEST}
    return write_cifar(root / "cifar-10-batches-py", seed, batches, "labels", ("batches.meta", "label_names"))


def cifar100(root: Path, seed: int = 0) -> Options:
    """cifar-100-python/: one batch a split."""
    return write_cifar(root / "cifar-100-python", seed, PARTED, "fine_labels", ("meta", "fine_label_names"))


Writer = Callable[..., Options]
MINIATURES: dict[str, Writer] = {
    "caltech101": caltech101,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "coco70": coco70,
    "cub200": cub200,
    "dtd": dtd,
    "eurosat": eurosat,
    "fgvc_aircraft": fgvc_aircraft,
    "flowers102": flowers102,
    "food101": food101,
    "oxford_pets": oxford_pets,
    "stanford_cars": stanford_cars,
    "stanford_dogs": stanford_dogs,
    "sun397": sun397,
    **OWN,
}
VARIANTS: dict[str, tuple[str, Writer]] = {
    "coco70, names without split": ("coco70", partial(coco70, prefix=False)),
    "csv_list without splits": ("csv_list", partial(csv_list, parted=False)),
    "image_folder in an archive": ("image_folder", zip_of_folder),
    "stanford_cars as folders": ("stanford_cars", stanford_cars_folders),
    "stanford_cars as one list": ("stanford_cars", stanford_cars_list),
    "stanford_cars, all in the devkit": ("stanford_cars", partial(stanford_cars, nested=True)),
    "sun397 without partitions": ("sun397", partial(sun397, lists=False)),
}
ALL = {kind: (kind, write) for kind, write in MINIATURES.items()} | VARIANTS
PUBLISHED = sorted(set(MINIATURES) - set(OWN))
SMALL = TaskConfig(size=8, resize=8)


def make(kind: str, options: dict[str, Any], size: int = 8) -> DataSet:
    """A data set with options as an experiment file gives them."""
    found = data.data_set(kind)
    return found(build(found.Config, options), size)
