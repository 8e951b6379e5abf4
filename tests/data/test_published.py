"""The published data sets, read from small copies in their owners' layout."""

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.io import loadmat, savemat

from cotuning_tune import cli, data
from cotuning_tune.cache import cache_root
from cotuning_tune.data import PARTS, DataSet, FileDataSet, Split, TaskConfig, open_task
from cotuning_tune.errors import UserError
from cotuning_tune.hyper import build
from tests.data.miniatures import BIRDS, CARS, COLOURS, MINIATURES, TEST, TRAIN, VAL, VARIANTS, WHOLE, dtd

SMALL = TaskConfig(size=8, resize=8)
ALL = {kind: (kind, write) for kind, write in MINIATURES.items()} | VARIANTS
PUBLISHED = sorted(set(MINIATURES) - {"csv_list", "image_folder"})
FETCHED = [kind for kind in PUBLISHED if data.data_set(kind).fetches]
LISTED = [k for k in MINIATURES if k != "image_folder" and issubclass(data.data_set(k), FileDataSet)]
UNPARTED = {"caltech101", "eurosat", "sun397 without partitions", "csv_list without parts"}
WITH_VAL = {"coco70", "coco70, names without part", "csv_list", "dtd", "flowers102", "image_folder"}
CLASSES = {
    "caltech101": ("accordion", "airplanes", "yin_yang"),
    "cifar10": ("airplane", "automobile", "bird"),
    "cifar100": ("airplane", "automobile", "bird"),
    "coco70": ("person", "bicycle", "traffic light"),
    "csv_list": ("Ara, blue", "robin", "wren"),
    "cub200": ("Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross"),
    "dtd": ("banded", "blotchy", "zigzagged"),
    "eurosat": ("AnnualCrop", "Forest", "SeaLake"),
    "fgvc_aircraft": ("707-320", "Boeing 717", "F/A-18"),
    "flowers102": ("pink primrose", "hard-leaved pocket orchid", "canterbury bells"),
    "food101": ("apple_pie", "baby_back_ribs", "waffles"),
    "image_folder": ("daisy", "rose", "tulip"),
    "oxford_pets": ("Abyssinian", "american_bulldog", "american_pit_bull_terrier"),
    "stanford_cars": CARS,
    "stanford_dogs": ("Chihuahua", "Japanese_spaniel", "Australian_terrier"),
    "sun397": ("abbey", "balcony/interior", "zoo"),
}


def make(kind: str, options: dict[str, Any], size: int = 8) -> DataSet:
    """A data set with options as an experiment file gives them."""
    found = data.data_set(kind)
    return found(build(found.Config, options), size)


def seen_labels(split: Split) -> list[int]:
    """The class whose colour each image shows."""
    colours_BC = split.stored(range(len(split))).double().mean((2, 3))
    return torch.cdist(colours_BC, torch.tensor(COLOURS).double()).argmin(1).tolist()


def refused(kind: str, options: dict[str, Any]) -> str:
    """The one line with which a data set refuses what it finds."""
    with pytest.raises(UserError) as caught:
        open_task("it", 1.0, SMALL, options, kind).open_test()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_parts_and_labels(name: str, tmp_path: Path) -> None:
    """Classes and counts of each part are the published ones, and every image belongs to its label."""
    kind, write = ALL[name]
    task = open_task("it", 1.0, SMALL, write(tmp_path, 0), kind)
    test, train, val = TEST, TRAIN - 1, 1
    if name in UNPARTED:
        test, train, val = WHOLE // 5, WHOLE - WHOLE // 5 - 2, 2
    elif name in WITH_VAL:
        train, val = TRAIN, VAL
    classes = tuple(c.replace("/", "-") for c in CARS) if "folders" in name else CLASSES[kind]
    assert task.class_names == classes
    for split, count in ((task.train, train), (task.val, val), (task.open_test(), test)):
        assert Counter(split.labels_N.tolist()) == dict.fromkeys(range(3), count)
        assert seen_labels(split) == split.labels_N.tolist()


@pytest.mark.parametrize("name", ALL)
def test_parts_are_disjoint(name: str, tmp_path: Path) -> None:
    """No image is in two parts, by name and by content."""
    kind, write = ALL[name]
    task = open_task("it", 1.0, TaskConfig(size=12, resize=12), write(tmp_path, 1), kind)
    splits = (task.train, task.val, task.open_test())
    for keys in (
        [key for split in splits for key in split.names],
        [pixels.numpy().tobytes() for split in splits for pixels in split.stored(range(len(split)))],
    ):
        assert len(set(keys)) == sum(map(len, splits)) or kind == "fgvc_aircraft"


@pytest.mark.parametrize("kind", PUBLISHED)
def test_what_is_known_of_a_published_set(kind: str) -> None:
    """Each names its owners' page, its layout and its published counts; its first line says what it is."""
    found = data.data_set(kind)
    assert found.page.startswith("http")
    assert len(found.layout.strip().splitlines()[0]) > 20
    assert found.counts["classes"] > 1
    assert set(found.counts) <= {"classes", "images", *PARTS}
    assert found.fetches == (kind not in ("coco70", "cub200", "stanford_cars", "stanford_dogs"))


def test_list_data(capsys: pytest.CaptureFixture[str]) -> None:
    """``list data`` says what each set is in a line of its own, with authors and year where it is published."""
    assert cli.main(["list", "data"]) == 0
    shown = {line.split()[0]: line[24:] for line in capsys.readouterr().out.splitlines()}
    assert set(MINIATURES) <= set(shown)
    assert [kind for kind in PUBLISHED if not shown[kind].rstrip(".").count(" (") or ":" not in shown[kind]] == []
    assert [kind for kind in MINIATURES if not 30 < len(shown[kind]) <= 120] == []


SPLITS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "caltech101": ("Caltech101", {"": {}}),
    "cifar10": ("CIFAR10", {"train": {"train": True}, "test": {"train": False}}),
    "cifar100": ("CIFAR100", {"train": {"train": True}, "test": {"train": False}}),
    "dtd": ("DTD", {part: {"split": part} for part in PARTS}),
    "eurosat": ("EuroSAT", {"": {}}),
    "fgvc_aircraft": ("FGVCAircraft", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "flowers102": ("Flowers102", {part: {"split": part} for part in PARTS}),
    "food101": ("Food101", {part: {"split": part} for part in ("train", "test")}),
    "oxford_pets": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "stanford_cars": ("StanfordCars", {part: {"split": part} for part in ("train", "test")}),
    "sun397 without partitions": ("SUN397", {"": {}}),
}


def pixels_and_labels(found: DataSet, parts: tuple[str, ...]) -> Iterator[tuple[bytes, int]]:
    """Every image of some parts with its label."""
    for part in parts:
        if isinstance(found, FileDataSet):
            files = found.files(part)
            assert files
            for name, label in zip(files.names, files.labels, strict=True):
                with Image.open(files.root / name) as image:
                    yield image.convert("RGB").tobytes(), label
        else:
            listing = getattr(found, part)()
            images_N33S = listing.images.take(range(len(listing.names))).permute(0, 2, 3, 1).numpy()
            yield from zip((image.tobytes() for image in images_N33S), listing.labels, strict=True)


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
@pytest.mark.parametrize("name", SPLITS)
def test_as_torchvision_reads_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's own class finds the same images with the same labels in the same folder."""
    kind, write = ALL[name]
    fetcher, splits = SPLITS[name]
    for module in ("cifar", "flowers102"):  # a small copy cannot have the published checksums
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    options = write(tmp_path, 2)
    found = make(kind, options, 32)
    for part, chosen in splits.items():
        reference = getattr(torchvision.datasets, fetcher)(options["root"], **chosen)
        expected = Counter((image.convert("RGB").tobytes(), int(label)) for image, label in reference)
        assert Counter(pixels_and_labels(found, (part,) if part else ("train", "test"))) == expected


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
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_listed_image_is_missing(kind: str, part: str, tmp_path: Path) -> None:
    """An image that a list names and the folder lacks is named, with the number of those that are missing."""
    options = MINIATURES[kind](tmp_path, 0)
    found = make(kind, options)
    assert isinstance(found, FileDataSet)
    files = found.files(part)
    assert files
    (files.root / files.names[1]).unlink()
    with pytest.raises(UserError) as caught:
        getattr(found, part)()
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
    """An image that stands in the lists of two parts is refused: the test part would prove nothing."""
    options = MINIATURES["coco70"](tmp_path, 0)
    base = tmp_path / "COCO70"
    stolen = (base / "test.txt").read_text().splitlines()[0]
    (base / "train.txt").write_text((base / "train.txt").read_text() + stolen + "\n")
    line = refused("coco70", options)
    assert f"{stolen.split()[0]} twice" in line


@pytest.mark.parametrize("name", ["cub200", "stanford_cars", "dtd", "oxford_pets", "cifar10", "sun397"])
def test_the_folder_itself(name: str, tmp_path: Path) -> None:
    """``root`` may be the folder that holds the set's own folder, or that folder."""
    options = MINIATURES[name](tmp_path, 0)
    (inner,) = tmp_path.iterdir()
    outer, own = make(name, options), make(name, {"root": str(inner)})
    assert own.train().names == outer.train().names
    assert own.test().labels == outer.test().labels


@pytest.mark.parametrize("kind", ["dtd", "sun397"])
def test_partitions(kind: str, tmp_path: Path) -> None:
    """Each published partition is another one; one that is not published is refused."""
    options = MINIATURES[kind](tmp_path, 0)
    tests = [make(kind, options | {"partition": n}).test().names for n in (1, 2, 10)]
    assert len({tuple(sorted(names)) for names in tests}) == 3
    assert tests[0] == make(kind, options).test().names
    with pytest.raises(UserError, match="partition"):
        make(kind, options | {"partition": 11})


def test_aircraft_on_the_published_validation_part(tmp_path: Path) -> None:
    """With ``part = "train"`` the published val part validates; the test part stays the same."""
    options = MINIATURES["fgvc_aircraft"](tmp_path, 0)
    whole, parted = (make("fgvc_aircraft", options | {"part": part}) for part in ("trainval", "train"))
    val = parted.val()
    assert whole.val() is None
    assert val
    assert sorted([*parted.train().names, *val.names]) == sorted(whole.train().names)
    assert parted.test().names == whole.test().names


def test_aircraft_without_banner(tmp_path: Path) -> None:
    """The strip at the bottom stays by default; with ``crop_banner`` it is gone, names and split unchanged."""
    options = MINIATURES["fgvc_aircraft"](tmp_path, 0)
    kept, cut = (make("fgvc_aircraft", options | {"crop_banner": crop}, 30).test() for crop in (False, True))
    assert kept.names == cut.names
    (shown, left) = (listing.images.take(range(len(listing.names))).numpy() for listing in (kept, cut))
    assert shown[:, :, -5:].min() > 240
    expected = np.asarray(COLOURS)[cut.labels][:, :, None, None]
    assert np.abs(left - expected).max() < 40  # JPEG smears the edge of the strip a little


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_broken_aircraft_without_banner(tmp_path: Path, content: bytes) -> None:
    """An image that cannot be read is named also where its banner is cut off."""
    options = MINIATURES["fgvc_aircraft"](tmp_path, 0)
    path = sorted(tmp_path.rglob("*.jpg"))[0]
    path.write_bytes(content)
    with pytest.raises(UserError, match=path.name):
        make("fgvc_aircraft", options | {"crop_banner": True}).train()


@pytest.mark.parametrize("kind", FETCHED)
@pytest.mark.parametrize("by", ["option", "command"])
def test_no_network(kind: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that fails is one line with the reason, the owners' page and the expected layout."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    found = data.data_set(kind)
    config = build(found.Config, {"root": str(tmp_path), "download": True})
    with pytest.raises(UserError) as caught:
        found(config, 8) if by == "option" else found.download(config)
    line = str(caught.value)
    assert "\n" not in line
    assert [w for w in ("no route", found.page, found.layout.strip().splitlines()[0].strip()) if w not in line] == []


@pytest.mark.parametrize("kind", sorted(set(PUBLISHED) - set(FETCHED)))
def test_no_download(kind: str, tmp_path: Path) -> None:
    """A set that nobody may hand out is refused with its owners' page."""
    found = data.data_set(kind)
    with pytest.raises(UserError, match="cannot be downloaded") as caught:
        found.download(build(found.Config, {"root": str(tmp_path)}))
    assert found.page in str(caught.value)


def test_download_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``download = true`` a missing set is fetched into the cache folder, once."""
    calls: list[str] = []

    def deliver(root: str, download: bool) -> None:
        calls.append(root)
        dtd(Path(root))

    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "DTD", deliver)
    for _ in range(2):
        assert len(make("dtd", {"download": True}).train().names) == 3 * TRAIN
    assert calls == [str(cache_root() / "downloads")]
    assert len(make("dtd", {}).train().names) == 3 * TRAIN
