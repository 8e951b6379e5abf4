"""Folders of images, as people have them."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.testing import pixels_of
from tests.data.test_data_sets import Folder, make


def test_folder_with_splits(image_folder: Folder) -> None:
    """In the layout train/ and test/ each split holds the images of its own folder."""
    found = make("image_folder", root=str(image_folder()))
    assert found.class_names == ("a", "b")
    for split, listing in (("train", found.train()), ("test", found.test())):
        assert listing.names == [f"{split}/{name}/{n}.jpg" for name in "ab" for n in range(4)]
        assert listing.labels == [0] * 4 + [1] * 4
        assert pixels_of(listing).shape == (8, 3, 8, 8)
    assert found.val() is None


def test_folder_with_validation_split(image_folder: Folder) -> None:
    """A folder val/ is the validation split, even where it lacks a class."""
    root = image_folder(("train", "test", "val"))
    for path in (root / "val" / "b").iterdir():
        path.unlink()
    task = open_task("mine", 1.0, TaskConfig(size=8, resize=8), {"root": str(root)}, "image_folder")
    assert (len(task.train), task.val.labels_N.tolist()) == (8, [0] * 4)


def test_folder_of_classes(image_folder: Folder) -> None:
    """A folder of classes is split by the names of its files: a fifth of each class becomes the test split."""
    root = image_folder((), count=10)
    found = make("image_folder", root=str(root))
    train, test = found.train(), found.test()
    assert (Counter(train.labels), Counter(test.labels)) == ({0: 8, 1: 8}, {0: 2, 1: 2})
    assert set(train.names).isdisjoint(test.names)
    assert {Path(name).parts[0] for name in test.names} == {"a", "b"}
    again = make("image_folder", root=str(root))
    assert again.test().names == test.names
    assert make("image_folder", root=str(root), split_seed=1).test().names != test.names


def test_folder_of_classes_keeps_images_with_their_names(image_folder: Folder) -> None:
    """After the split each name still belongs to its own pixels."""
    root = image_folder((), count=5)
    listing = make("image_folder", root=str(root)).test()
    for name, pixels in zip(listing.names, pixels_of(listing), strict=True):
        with Image.open(root / name) as image:
            expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels.numpy(), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, ["root"]), ({"root": "/no/such/folder"}, ["/no/such/folder"])],
    ids=["not given", "not there"],
)
def test_no_folder(options: dict[str, str], words: list[str]) -> None:
    """A folder that is not given or not there is one line that says so."""
    with pytest.raises(UserError) as caught:
        make("image_folder", **options)
    assert [word for word in words if word not in str(caught.value)] == []


def test_training_split_without_test_split(image_folder: Folder) -> None:
    """A folder with train/ needs test/ too, and says so at once."""
    with pytest.raises(UserError, match=r"there is train, but no test split: say splits = \{ train = "):
        make("image_folder", root=str(image_folder(("train",))))


def test_usual_names_of_splits(image_folder: Folder) -> None:
    """They are known in any case; what they cannot be told from, is asked for."""
    root = image_folder(("Training", "TEST", "valid"))
    found = make("image_folder", root=str(root))
    assert (found.class_names, len(found.train().names), len(found.test().names)) == (("a", "b"), 8, 8)
    val = found.val()
    assert val is not None
    assert val.names[0] == "valid/a/0.jpg"
    (root / "validation" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"valid and validation may both be the val split: say splits = \{"):
        make("image_folder", root=str(root))
    chosen = {"splits/val": "validation", "root": str(root)}
    with pytest.raises(UserError, match="may be splits, but what is valid"):
        make("image_folder", **chosen)
    with pytest.raises(UserError, match=r"has no folder dev \(splits\); there are: TEST, Training, valid"):
        make("image_folder", **{"splits/val": "dev", "root": str(root)})


def test_a_class_that_is_called_like_a_split(image_folder: Folder) -> None:
    """Cars, planes and trains: asked, not guessed; what splits names is taken, whatever it is called."""
    root = image_folder(("car", "plane", "train"))
    with pytest.raises(UserError, match="train may be splits, but what is car"):
        make("image_folder", root=str(root))
    root = image_folder(("one", "two"), folder="named")
    found = make("image_folder", **{"splits/train": "one", "splits/test": "two", "root": str(root)})
    assert found.test().names[0] == "two/a/0.jpg"


def test_classes_are_matched_whatever_wrote_their_names(image_folder: Folder) -> None:
    """train/ from one system and test/ from another: composed and decomposed letters are the same class."""
    root = image_folder(("train", "test"))
    (root / "train" / "b").rename(root / "train" / "K\u00e4fer")
    (root / "test" / "b").rename(root / "test" / "Ka\u0308fer")
    found = make("image_folder", root=str(root))
    assert found.class_names == ("K\u00e4fer", "a")
    assert len(found.test().names) == 8


def test_file_names_of_any_bytes_split_alike(image_folder: Folder) -> None:
    """A name that is not UTF-8 is a name; composed and decomposed ones fall into the same split."""
    root = image_folder((), count=10)
    names = ["caf\udce9.jpg", "\u00fcber.jpg"]
    for number, name in enumerate(names):
        (root / "a" / f"{number}.jpg").rename(root / "a" / name)
    before = [Path(name).name for name in make("image_folder", root=str(root)).test().names]
    (root / "a" / "\u00fcber.jpg").rename(root / "a" / "u\u0308ber.jpg")
    after = [
        unicodedata.normalize("NFC", Path(name).name) for name in make("image_folder", root=str(root)).test().names
    ]
    assert sorted(before) == sorted(after)


def test_what_lies_beside_the_images_is_told(image_folder: Folder) -> None:
    """Once, with number and example, whatever the splits."""
    root = image_folder()
    for split in ("train", "test"):
        (root / split / "a" / "notes.txt").write_text("")
    assert make("image_folder", root=str(root)).not_taken() == ["2 not taken, no image: train/a/notes.txt, ..."]
    whole = image_folder((), folder="whole")
    (whole / "a" / ".hidden.jpg").write_text("")
    assert make("image_folder", root=str(whole)).not_taken() == [
        "1 not taken, hidden or left behind by a tool: a/.hidden.jpg"
    ]


def test_what_is_told_is_one_line(image_folder: Folder) -> None:
    """Whatever letters the name has."""
    root = image_folder()
    (root / "train" / "a" / "line\nend\udcff.txt").write_text("")
    assert make("image_folder", root=str(root)).not_taken() == ["1 not taken, no image: train/a/line\\nend\\udcff.txt"]


def test_files_beside_the_classes_are_told(image_folder: Folder) -> None:
    """Images that lie in no class folder, beside the splits too, are not passed over without a word."""
    for splits, start in (("train", "test"), "train/"), ((), ""):
        root = image_folder(splits, folder=f"pictures{len(splits)}")
        (root / "stray.jpg").write_bytes((root / start / "a" / "0.jpg").read_bytes())
        (root / start / "README.md").write_text("")
        (root / start / "__MACOSX").mkdir()
        found = make("image_folder", root=str(root))
        assert len(found.train().names) == (8 if splits else 6)
        assert found.not_taken() == [
            "1 not taken, beside the class folders, not in one: stray.jpg",
            f"1 not taken, hidden or left behind by a tool: {start}__MACOSX",
            f"1 not taken, no image: {start}README.md",
        ]


def test_named_splits_are_folders_of_their_own(image_folder: Folder) -> None:
    """One folder cannot be two splits; a name is found whichever way its letters are composed on the disk."""
    root = image_folder(("one", "Pru\u0308fung"))
    found = make("image_folder", **{"splits/train": "one", "splits/test": "Pr\u00fcfung", "root": str(root)})
    assert len(found.test().names) == 8
    with pytest.raises(UserError, match=r"^splits names one twice: a folder belongs to one split$"):
        make("image_folder", **{"splits/train": "one", "splits/test": "one", "root": str(root)})


def test_one_class(image_folder: Folder) -> None:
    """A folder with a single class is no task."""
    with pytest.raises(UserError, match="two or more"):
        make("image_folder", root=str(image_folder(classes="a"))).train()


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_without_a_readable_image(image_folder: Folder, split: str) -> None:
    """A class folder without an image is named, with what is there and the endings that count."""
    root = image_folder()
    for path in (root / split / "b").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(UserError, match=rf"{split}/b holds no image \(0\.txt is no image; known: \.jpg"):
        getattr(make("image_folder", root=str(root)), split)()


def test_test_class_that_training_lacks(image_folder: Folder) -> None:
    """A class in test/ that train/ lacks is named."""
    root = image_folder()
    (root / "test" / "zebra").mkdir()
    with pytest.raises(UserError, match="'zebra'"):
        make("image_folder", root=str(root)).test()


@pytest.mark.parametrize("spoil", ["extra class", "empty class"])
def test_a_wrong_test_folder_is_seen_at_once(image_folder: Folder, spoil: str) -> None:
    """Classes of test/ that do not fit are refused when the data set is made, not after the search."""
    root = image_folder()
    if spoil == "extra class":
        (root / "test" / "zebra").mkdir()
    else:
        for path in (root / "test" / "b").iterdir():
            path.unlink()
    with pytest.raises(UserError, match="test"):
        make("image_folder", root=str(root))


@pytest.mark.parametrize("decode", ["once", "each"])
def test_broken_test_images_are_seen_before(image_folder: Folder, decode: str) -> None:
    """Every test image is decoded before anything is searched, however images are kept; whole ones say nothing."""
    root = image_folder()
    task = open_task("mine", 1.0, TaskConfig(size=8, resize=8, decode=decode), {"root": str(root)}, "image_folder")  # type: ignore[arg-type]
    task.check()
    broken = root / "test" / "b" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 of 8 images in .* cannot be read: test/b/3\.jpg \("):
        task.check()
