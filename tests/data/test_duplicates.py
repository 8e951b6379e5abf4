"""Images with the same bytes: never drawn into two splits; in given splits refused, left out or kept, with numbers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import ArrayImages, Listing, Task, TaskConfig, open_task
from cotuning_tune.data._duplicates import Contents, shared, two_labels
from cotuning_tune.data._splitting import grouped, hold_out, sample
from tests.data.test_task import FakeData

Folder = Callable[..., Path]
SMALL = {"size": 8, "resize": 8}


def folder_task(root: Path, rate: float = 1.0, **config: Any) -> Task:
    return open_task("mine", rate, TaskConfig(**SMALL, **config), {"root": str(root)}, "image_folder")


@pytest.fixture
def leaky(image_folder: Folder) -> Path:
    """Two classes in three given splits; one training image is in test, one in val, and one of val in test."""
    root = image_folder(("train", "val", "test"), count=6)
    shutil.copy(root / "train/a/1.jpg", root / "test/b/leak.jpg")
    shutil.copy(root / "train/b/2.jpg", root / "val/b/leak.jpg")
    shutil.copy(root / "val/a/3.jpg", root / "test/a/leak.jpg")
    return root


def test_a_set_of_ones_own_is_refused(leaky: Path) -> None:
    """One line with the numbers, an example of each, and the ways out; before anything is trained."""
    with pytest.raises(UserError) as caught:
        folder_task(leaky).check_duplicates()
    assert str(caught.value) == (
        "mine: 1 training image has the same bytes as a test image: train/a/1.jpg = test/b/leak.jpg;"
        " 1 validation image has the same bytes as a test image: val/a/3.jpg = test/a/leak.jpg;"
        " 1 training image has the same bytes as a validation image: train/b/2.jpg = val/b/leak.jpg;"
        ' set task.duplicates = "drop" to leave them out of training and validation, or "keep"'
    )
    assert caught.value.key == "task.duplicates"


def test_many_are_counted(image_folder: Folder) -> None:
    """Of several the number and the first are told."""
    root = image_folder()
    for number in (1, 2):
        shutil.copy(root / f"train/a/{number}.jpg", root / f"test/a/again{number}.jpg")
    with pytest.raises(
        UserError, match=r"^mine: 2 training images have the same bytes as test images: train/a/1.jpg ="
    ):
        folder_task(root).check_duplicates()


@pytest.mark.parametrize("val_seed", [0, 1])
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_they_are_left_out(leaky: Path, val_seed: int, rate: float) -> None:
    """With ``drop`` training lacks what is in test or val, validation what is in test; the fingerprint tells."""
    kept = folder_task(leaky, rate, duplicates="keep", val_seed=val_seed)
    dropped = folder_task(leaky, rate, duplicates="drop", val_seed=val_seed)
    dropped.check_duplicates()
    gone = {"train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg"}
    assert not gone & {*dropped.train.names, *dropped.val.names}
    assert len(dropped.val) == 12
    assert kept.fingerprint() != dropped.fingerprint()
    assert dropped.duplicate_lines()[0] == (
        "mine: 1 training image has the same bytes as a test image: train/a/1.jpg = test/b/leak.jpg:"
        " left out of training"
    )
    assert len(dropped.open_test()) == 14
    assert dropped.snapshot(test=True).keys == kept.snapshot(test=True).keys


def test_they_are_kept(leaky: Path) -> None:
    """With ``keep`` nothing is left out, and the start of a run says so."""
    task = folder_task(leaky, duplicates="keep")
    task.check_duplicates()
    assert (len(task.train), len(task.val)) == (12, 13)
    assert "kept" in task.duplicate_lines()[0]


def test_the_treatment_alone_changes_nothing(image_folder: Folder) -> None:
    """Where no image stands in two splits, every treatment is the same training, and nothing is said."""
    tasks = [folder_task(image_folder(), duplicates=which) for which in ("auto", "refuse", "drop", "keep")]
    assert len({task.fingerprint() for task in tasks}) == 1
    for task in tasks:
        task.check_duplicates()
        assert task.duplicate_lines() == []


def test_a_class_that_is_all_leaked(image_folder: Folder) -> None:
    """Where ``drop`` leaves a class no training image it is refused by its name."""
    root = image_folder(count=1)
    shutil.copy(root / "train/b/0.jpg", root / "test/b/again.jpg")
    with pytest.raises(UserError, match="every training image of class 'b' stands in another split too"):
        folder_task(root, duplicates="drop")


class PublishedData(FakeData):
    """A set with a page of its owners."""

    page = "https://example.org/birds"


def pixels(values: list[int]) -> ArrayImages:
    return ArrayImages((np.zeros((len(values), 3, 4, 4)) + np.array(values)[:, None, None, None]).astype(np.uint8))


@pytest.mark.parametrize(("kind", "treated"), [(FakeData, "refuse"), (PublishedData, "keep")])
def test_auto(kind: type[FakeData], treated: str) -> None:
    """A published set is kept as published; one of people's own is refused."""
    names = [f"image {n}" for n in range(8)]
    task = Task("t", kind(Listing(names, [0, 1] * 4, pixels(list(range(8))))), 1.0, TaskConfig(size=4, resize=4))
    assert task.duplicates == treated
    if treated == "refuse":
        with pytest.raises(UserError, match="4 training images have the same bytes as test images: image 0 = image 0"):
            task.check_duplicates()
    else:
        task.check_duplicates()
    assert len(task.train) + len(task.val) == 8


def test_only_a_drop_reads_the_test_split() -> None:
    """Opening a task touches the test split for its digests with ``drop`` alone."""
    names = [f"image {n}" for n in range(12)]
    opened = []
    for which in ("auto", "refuse", "keep", "drop"):
        data = FakeData(Listing(names, [0, 1] * 6, pixels(list(range(12)))))
        Task("t", data, 1.0, TaskConfig(size=4, resize=4, duplicates=which))
        opened.append(data.opened)
    assert opened == [0, 0, 0, 1]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_equal_bytes_are_never_drawn_apart(data: st.DataObject) -> None:
    """In training and validation split of any rate and seed; every sampled image is in exactly one of them."""
    values = data.draw(st.lists(st.integers(0, 12), min_size=8, max_size=40))
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(values), max_size=len(values)))
    rate, seed = data.draw(st.sampled_from([0.5, 1.0])), data.draw(st.integers(0, 3))
    listing = Listing([f"i{n}" for n in range(len(values))], labels, pixels(values))
    groups = grouped(listing.names, listing.examples.digests())
    kept = sample(listing, rate, 0)
    train, held = hold_out(listing, kept, 0.3, seed, groups)
    assert sorted(train + held) == kept
    assert not {values[p] for p in train} & {values[p] for p in held}
    assert {labels[p] for p in train} == {labels[p] for p in kept}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_without_duplicates_nothing_changes(counts: list[int], seed: int) -> None:
    """The split of a set without equal images is that of its names alone."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    names = [f"n{n}" for n in range(len(labels))]
    listing = Listing(names, labels, pixels(list(range(len(labels)))))
    assert grouped(names, listing.examples.digests(), [""] * len(names)) is None
    singles = list(range(len(labels)))
    assert hold_out(listing, singles, 0.2, seed) == hold_out(listing, singles, 0.2, seed, singles)


def test_a_folder_without_splits(image_folder: Folder) -> None:
    """Copies of an image stay together in the test share too; nothing is left to refuse."""
    root = image_folder((), count=10)
    for number in range(5):
        shutil.copy(root / f"a/{number}.jpg", root / f"a/copy{number}.jpg")
    task = folder_task(root)
    task.check_duplicates()
    where = {}
    for split, names in (("train", task.train.names), ("val", task.val.names), ("test", task.open_test().names)):
        where |= dict.fromkeys(names, split)
    assert len(where) == 25
    assert all(where[f"a/{number}.jpg"] == where[f"a/copy{number}.jpg"] for number in range(5))


def test_unreadable_images_are_no_duplicates() -> None:
    """An image that cannot be read has no digest, and equals no other."""
    empty = Contents(["a", "b"], [0, 1], ["", ""])
    assert shared({"train": empty, "test": empty}) == []
    assert grouped(empty.names, empty.digests) is None


def test_two_labels() -> None:
    """The same bytes under two labels in one split are counted, with an example."""
    contents = {
        "train": Contents(["a", "b", "c", "d"], [0, 1, 0, 0], ["x", "x", "y", "y"]),
        "test": Contents(["e", "f", "g", "h"], [0, 1, 1, 0], ["x", "x", "z", "z"]),
    }
    assert two_labels(contents, ("wren", "owl")) == [
        "1 training content has two labels: a (wren) = b (owl)",
        "2 test contents have two labels: e (wren) = f (owl), ...",
    ]
