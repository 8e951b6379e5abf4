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

from cotuning_tune import cli, data
from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import SPLITS, DataSet, FileDataSet, Split, open_task
from cotuning_tune.hyper import build
from cotuning_tune.testing import DataSetConformance
from tests.data.miniatures import (
    ALL,
    CARS,
    COLOURS,
    MINIATURES,
    OWN,
    PUBLISHED,
    SMALL,
    TEST,
    TRAIN,
    VAL,
    WHOLE,
    dtd,
    make,
)

FETCHED = [kind for kind in PUBLISHED if data.data_set(kind).fetches]
UNPARTED = {"caltech101", "eurosat", "sun397 without partitions", "csv_list without splits"}
WITH_VAL = {"coco70", "coco70, names without split", "dtd", "flowers102", "image_folder in an archive", *OWN}
CLASSES = {
    "caltech101": ("accordion", "airplanes", "yin_yang"),
    "cifar10": ("airplane", "automobile", "bird"),
    "cifar100": ("airplane", "automobile", "bird"),
    "coco70": ("person", "bicycle", "traffic light"),
    "coco_classification": ("owl", "crow", "auk"),
    "csv_list": ("Ara, blue", "robin", "wren"),
    "cub200": ("Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross"),
    "dtd": ("banded", "blotchy", "zigzagged"),
    "eurosat": ("AnnualCrop", "Forest", "SeaLake"),
    "fgvc_aircraft": ("707-320", "Boeing 717", "F/A-18"),
    "flowers102": ("pink primrose", "hard-leaved pocket orchid", "canterbury bells"),
    "food101": ("apple_pie", "baby_back_ribs", "waffles"),
    "hf_dataset": ("yak", "ant", "zebu"),
    "hf_imagefolder": ("0", "1", "2"),
    "image_folder": ("daisy", "rose", "tulip"),
    "oxford_pets": ("Abyssinian", "american_bulldog", "american_pit_bull_terrier"),
    "stanford_cars": CARS,
    "stanford_dogs": ("Chihuahua", "Japanese_spaniel", "Australian_terrier"),
    "sun397": ("abbey", "balcony/interior", "zoo"),
    "webdataset": ("auk", "crow", "owl"),
}


def seen_labels(split: Split) -> list[int]:
    """The class whose colour each image shows."""
    colours_BC = split.stored(range(len(split))).double().mean((2, 3))
    return torch.cdist(colours_BC, torch.tensor(COLOURS).double()).argmin(1).tolist()


@pytest.mark.parametrize("name", ALL)
def test_splits_and_labels(name: str, tmp_path: Path) -> None:
    """Classes and counts of each split are the published ones, and every image belongs to its label."""
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


class TestDataSets(DataSetConformance):
    """Every set of files, from its small copy."""

    @pytest.fixture(params=ALL)
    def made(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
        kind, write = ALL[request.param]
        return kind, write(tmp_path, 1)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_what_is_known_of_a_published_set(kind: str) -> None:
    """Each names its owners' page, its layout and its published counts; its first line says what it is."""
    found = data.data_set(kind)
    assert found.page.startswith("http")
    assert len(found.layout.strip().splitlines()[0]) > 20
    assert found.counts["classes"] > 1
    assert set(found.counts) <= {"classes", "images", *SPLITS}
    assert found.fetches == (kind not in ("coco70", "cub200", "stanford_cars", "stanford_dogs"))


def test_list_data(capsys: pytest.CaptureFixture[str]) -> None:
    """``list data`` says what each set is in a line of its own, with authors and year where it is published."""
    assert cli.main(["list", "data"]) == 0
    shown = {line.split()[0]: line[24:] for line in capsys.readouterr().out.splitlines()}
    assert set(MINIATURES) <= set(shown)
    assert [kind for kind in PUBLISHED if not shown[kind].rstrip(".").count(" (") or ":" not in shown[kind]] == []
    assert [kind for kind in MINIATURES if not 30 < len(shown[kind]) <= 120] == []


FETCHERS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "caltech101": ("Caltech101", {"": {}}),
    "cifar10": ("CIFAR10", {"train": {"train": True}, "test": {"train": False}}),
    "cifar100": ("CIFAR100", {"train": {"train": True}, "test": {"train": False}}),
    "dtd": ("DTD", {split: {"split": split} for split in SPLITS}),
    "eurosat": ("EuroSAT", {"": {}}),
    "fgvc_aircraft": ("FGVCAircraft", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "flowers102": ("Flowers102", {split: {"split": split} for split in SPLITS}),
    "food101": ("Food101", {split: {"split": split} for split in ("train", "test")}),
    "oxford_pets": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "stanford_cars": ("StanfordCars", {split: {"split": split} for split in ("train", "test")}),
    "sun397 without partitions": ("SUN397", {"": {}}),
}


def pixels_and_labels(found: DataSet, splits: tuple[str, ...]) -> Iterator[tuple[bytes, int]]:
    """Every image of some splits with its label."""
    for split in splits:
        if isinstance(found, FileDataSet):
            files = found.files(split)
            assert files
            for name, label in zip(files.names, files.labels, strict=True):
                with Image.open(files.root / name) as image:
                    yield image.convert("RGB").tobytes(), label
        else:
            listing = getattr(found, split)()
            images_N33S = listing.examples.take(range(len(listing.names))).permute(0, 2, 3, 1).numpy()
            yield from zip((image.tobytes() for image in images_N33S), listing.labels, strict=True)


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
@pytest.mark.parametrize("name", FETCHERS)
def test_as_torchvision_reads_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's own class finds the same images with the same labels in the same folder."""
    kind, write = ALL[name]
    fetcher, splits = FETCHERS[name]
    for module in ("cifar", "flowers102"):  # a small copy cannot have the published checksums
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    options = write(tmp_path, 2)
    found = make(kind, options, 32)
    for split, chosen in splits.items():
        reference = getattr(torchvision.datasets, fetcher)(options["root"], **chosen)
        expected = Counter((image.convert("RGB").tobytes(), int(label)) for image, label in reference)
        assert Counter(pixels_and_labels(found, (split,) if split else ("train", "test"))) == expected


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


def test_aircraft_on_the_published_validation_split(tmp_path: Path) -> None:
    """With ``split = "train"`` the published val split validates; the test split stays the same."""
    options = MINIATURES["fgvc_aircraft"](tmp_path, 0)
    whole, parted = (make("fgvc_aircraft", options | {"split": split}) for split in ("trainval", "train"))
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
    (shown, left) = (listing.examples.take(range(len(listing.names))).numpy() for listing in (kept, cut))
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
