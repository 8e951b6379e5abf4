"""Mistakes in the folders and lists of the published data sets: each is one line that says what and where."""

from pathlib import Path
from typing import Any

import pytest
from scipy.io import loadmat, savemat

from cotuning_tune import data
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet, open_task
from tests.data.miniatures import ALL, BIRDS, MINIATURES, PUBLISHED, SMALL, make

LISTED = [k for k in MINIATURES if k != "image_folder" and issubclass(data.data_set(k), FileDataSet)]
LISTS = [
    ("coco70", "train.txt"),
    ("coco70", "dev.txt"),
    ("coco70", "test.txt"),
    ("coco70", "classes.txt"),
    ("cifar10", "data_batch_3"),
    ("cifar10", "test_batch"),
    ("cifar10", "batches.meta"),
    ("cifar100", "test"),
    ("cub200", "images.txt"),
    ("cub200", "image_class_labels.txt"),
    ("cub200", "classes.txt"),
    ("cub200", "train_test_split.txt"),
    ("dtd", "val1.txt"),
    ("fgvc_aircraft", "variants.txt"),
    ("fgvc_aircraft", "images_variant_trainval.txt"),
    ("fgvc_aircraft", "images_variant_test.txt"),
    ("flowers102", "setid.mat"),
    ("flowers102", "imagelabels.mat"),
    ("food101", "classes.txt"),
    ("food101", "test.txt"),
    ("oxford_pets", "trainval.txt"),
    ("oxford_pets", "test.txt"),
    ("stanford_cars", "cars_meta.mat"),
    ("stanford_cars", "cars_train_annos.mat"),
    ("stanford_cars", "cars_test_annos_withlabels.mat"),
    ("stanford_dogs", "train_list.mat"),
    ("stanford_dogs", "test_list.mat"),
    ("sun397", "ClassName.txt"),
    ("sun397", "Testing_01.txt"),
]


def refused(kind: str, options: dict[str, Any]) -> str:
    """The one line with which a data set refuses what it finds."""
    with pytest.raises(UserError) as caught:
        open_task("it", 1.0, SMALL, options, kind).open_test()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "name"), LISTS)
@pytest.mark.parametrize("spoil", ["missing", "broken", "cut off"])
def test_a_list_is_missing_or_broken(kind: str, name: str, spoil: str, tmp_path: Path) -> None:
    """A list that is missing, cut off or no list at all is named, and what is expected is shown."""
    options = MINIATURES[kind](tmp_path, 0)
    (path,) = tmp_path.rglob(name)
    if spoil == "missing":
        path.unlink()
    elif spoil == "cut off":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if path.suffix == ".mat" else 0])
    else:
        path.write_bytes(b"\xff\xfe\x00 nonsense")
    with pytest.raises(UserError) as caught:
        open_task("it", 1.0, SMALL, options, kind).open_test()
    line = str(caught.value)
    assert "\n" not in line
    assert name in line
    assert data.data_set(kind).layout.strip().splitlines()[0] in line


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("folder", ["none", "empty", "absent"])
def test_a_wrong_folder(kind: str, folder: str, tmp_path: Path) -> None:
    """No folder, an empty one or one that is not there: a line that shows what is expected and where it is from."""
    root = {"none": "", "empty": str(tmp_path), "absent": str(tmp_path / "no such folder")}[folder]
    found = data.data_set(kind)
    line = refused(kind, {"root": root})
    assert found.layout.strip().splitlines()[0].strip() in line
    assert found.page in line
    assert root in line
    assert ("download = true" in line) == found.fetches


@pytest.mark.parametrize("kind", LISTED)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_listed_image_is_missing(kind: str, split: str, tmp_path: Path) -> None:
    """An image that a list names and the folder lacks is named, with the number of those that are missing."""
    options = MINIATURES[kind](tmp_path, 0)
    found = make(kind, options)
    assert isinstance(found, FileDataSet)
    files = found.files(split)
    assert files
    (files.root / files.names[1]).unlink()
    with pytest.raises(UserError) as caught:
        getattr(found, split)()
    line = str(caught.value)
    assert "\n" not in line
    assert files.names[1] in line
    assert f"1 of {len(files.names)}" in line


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence in a text file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


EDITS = [
    ("coco70", "train.txt", " 2\n", " 3\n", ["3", "0 to 2", "train.txt"]),
    ("coco70", "test.txt", " 0\n", " -1\n", ["-1", "0 to 2", "test.txt"]),
    ("coco70", "dev.txt", " 0\n", "\n", ["class number", "dev.txt"]),
    ("coco70", "classes.txt", "light\n", "light\nzebra\n", ["no training image", "zebra"]),
    ("cub200", "image_class_labels.txt", "1 1\n", "1 4\n", ["'4'", "classes.txt"]),
    ("cub200", "image_class_labels.txt", "1 1\n", "1 2\n", [BIRDS[0], BIRDS[1], "image_class_labels.txt"]),
    ("cub200", "image_class_labels.txt", "1 1\n", "", ["'1'", "image_class_labels.txt"]),
    ("cub200", "image_class_labels.txt", "1 1\n", "2 1\n", ["'2 1'", "image_class_labels.txt"]),
    ("cub200", "train_test_split.txt", "1 ", "1 7", ["'7", "train_test_split.txt"]),
    ("cub200", "train_test_split.txt", "2 ", "200 ", ["'2'", "train_test_split.txt"]),
    ("dtd", "test1.txt", "banded/", "woven/", ["woven"]),
    ("fgvc_aircraft", "images_variant_test.txt", "Boeing 717", "Boeing 718", ["Boeing 718", "variants.txt"]),
    ("fgvc_aircraft", "images_variant_test.txt", "F/A-18", "", ["images_variant_test.txt"]),
    ("food101", "train.txt", "waffles/", "tacos/", ["tacos", "classes.txt"]),
    ("oxford_pets", "test.txt", " 3 2", " 4 2", ["4", "1 to 3", "test.txt"]),
    ("oxford_pets", "test.txt", " 1 2", " 0 2", ["0", "1 to 3", "test.txt"]),
    ("oxford_pets", "test.txt", " 1 2", " 2 2", ["Abyssinian", "american_bulldog", "test.txt"]),
    ("sun397", "Testing_01.txt", "/z/zoo/", "/z/zen/", ["z/zen", "ClassName.txt"]),
]


@pytest.mark.parametrize(("kind", "name", "old", "new", "words"), EDITS)
def test_a_mistake_in_a_list(kind: str, name: str, old: str, new: str, words: list[str], tmp_path: Path) -> None:
    """A label out of range, of another class or without one is refused with the list and what is wrong."""
    options = MINIATURES[kind](tmp_path, 0)
    (path,) = tmp_path.rglob(name)
    edit(path, old, new)
    line = refused(kind, options)
    assert [word for word in words if word not in line] == []


def change_mat(path: Path, variable: str, value: Any) -> None:
    """Change the first element of a variable in a MATLAB file; of a struct array its class."""
    content = {key: v for key, v in loadmat(path).items() if not key.startswith("__")}
    first = content[variable].ravel()
    if first.dtype.names:
        first["class"][0] = value
    else:
        first[0] = value
    savemat(path, content)


@pytest.mark.parametrize("value", [0, 4])
@pytest.mark.parametrize(
    ("name", "source", "variable"),
    [
        ("stanford_cars", "cars_train_annos.mat", "annotations"),
        ("stanford_cars", "cars_test_annos_withlabels.mat", "annotations"),
        ("stanford_cars as one list", "cars_annos.mat", "annotations"),
        ("stanford_dogs", "test_list.mat", "labels"),
    ],
)
def test_class_numbers_count_from_one(name: str, source: str, variable: str, value: int, tmp_path: Path) -> None:
    """In a MATLAB list the class numbers 0 and one more than there are classes are refused, the file named."""
    kind, write = ALL[name]
    options = write(tmp_path, 0)
    (path,) = tmp_path.rglob(source)
    change_mat(path, variable, value)
    line = refused(kind, options)
    assert f"class number {value} in" in line
    assert source in line
    assert "1 to 3" in line


def test_a_dog_of_another_class(tmp_path: Path) -> None:
    """A label that does not fit the folder of its image is refused."""
    options = MINIATURES["stanford_dogs"](tmp_path, 0)
    labels = loadmat(tmp_path / "lists" / "test_list.mat")["labels"]
    change_mat(tmp_path / "lists" / "test_list.mat", "labels", labels[0, 0] % 3 + 1)
    assert "test_list.mat" in refused("stanford_dogs", options)


@pytest.mark.parametrize("number", [0, 34])
def test_flowers_that_do_not_exist(number: int, tmp_path: Path) -> None:
    """A list of numbers that names no image is refused."""
    options = MINIATURES["flowers102"](tmp_path, 0)
    change_mat(tmp_path / "flowers-102" / "setid.mat", "tstid", number)
    line = refused("flowers102", options)
    assert f"{number} in setid.mat" in line
    assert "1 to 33" in line


def test_a_test_image_in_training(tmp_path: Path) -> None:
    """An image that stands in the lists of two splits is refused: the test split would prove nothing."""
    options = MINIATURES["coco70"](tmp_path, 0)
    base = tmp_path / "COCO70"
    stolen = (base / "test.txt").read_text().splitlines()[0]
    (base / "train.txt").write_text((base / "train.txt").read_text() + stolen + "\n")
    line = refused("coco70", options)
    assert f"{stolen.split()[0]} twice" in line
