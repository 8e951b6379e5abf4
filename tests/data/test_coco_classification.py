"""Classes in COCO's JSON: whole images with one category each."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet
from cotuning_tune.testing import pixels_of
from tests.data.test_csv_list import names
from tests.data.test_data_sets import make

Write = Callable[..., Path]
CATEGORIES = [{"id": 7, "name": "wren"}, {"id": 3, "name": "owl"}, {"id": 9, "name": "birds"}]


def content(count: int = 4) -> dict[str, Any]:
    """Images 0.png, 1.png, ... of the categories 3 and 7 in turn; the last is annotated twice, alike."""
    labels = [3 + 4 * (n % 2) for n in range(count)]
    notes = [{"id": n, "image_id": 100 + n, "category_id": label} for n, label in enumerate(labels)]
    return {
        "images": [{"id": 100 + n, "file_name": f"{n}.png"} for n in range(count)],
        "annotations": [*notes, notes[-1]],
        "categories": copy.deepcopy(CATEGORIES),
    }


def write(path: Path, what: object) -> None:
    """A file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(what if isinstance(what, str) else json.dumps(what))


def opened(root: Path, **options: object) -> FileDataSet:
    """The data set in this folder."""
    found = make("coco_classification", root=str(root), **options)
    assert isinstance(found, FileDataSet)
    return found


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("{}/_annotations.coco.json", "{}"),
        ("annotations/instances_{}.json", "{}"),
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/{}.json", "images"),
        ("{}.json", "images/{}"),
        ("{}.json", "."),
    ],
)
def test_layouts(tmp_path: Path, write_image: Write, file: str, folder: str) -> None:
    """The split is in the file's name; images are found where such sets have them; classes stand in number's order."""
    alike = "{}" not in folder
    for place, split in enumerate(("train", "valid", "test")):
        found = content()
        for image in found["images"]:
            image["file_name"] = f"{place}{image['file_name']}"
            write_image(tmp_path / folder.format(split) / image["file_name"], place)
        write(tmp_path / file.format(split), found)
    data = opened(tmp_path)
    assert data.class_names == ("owl", "wren")
    before = "" if folder == "." else "images/" if alike else f"{folder.format('valid')}/"
    assert names(data, "val") == [f"{before}1{n}.png" for n in range(4)]
    for listing in (data.train(), data.test()):
        assert (listing.labels, pixels_of(listing).shape) == ([0, 1, 0, 1], (4, 3, 8, 8))
    assert data.not_taken() == ["1 not taken, a class without an image: birds"]


def test_one_file(tmp_path: Path, write_image: Write) -> None:
    """A file that is of no split: a share of each class is the test split; images may lie elsewhere."""
    write(tmp_path / "a" / "all.json", content(20))
    write_image(tmp_path / "b" / "0.png")
    data = opened(tmp_path / "a", images=str(tmp_path / "b"))
    files = data.files("test")
    assert files
    assert (sorted(files.labels), files.root) == ([0, 0, 1, 1], tmp_path / "b")
    with pytest.raises(UserError, match=r"0\.png is in none of \., all, images, images/all below .*: set images"):
        opened(tmp_path / "a")


def test_patterns_of_splits(tmp_path: Path, write_image: Write) -> None:
    """Files with other names are named, and the others are told as not used."""
    for name in ("one", "two", "three"):
        write_image(tmp_path / name / "0.png")
        write(tmp_path / name / "x.json", content())
    data = opened(tmp_path, **{"splits/train": "one/*", "splits/test": "two/x.json"})
    assert (names(data, "train")[0], names(data, "test")[0]) == ("one/0.png", "two/0.png")
    assert data.not_taken()[1] == "1 not taken, of no split that is used: three/x.json"
    with pytest.raises(UserError, match=r"one/x\.json and three/x\.json may both be the annotations: say splits"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"has nothing like four/\* \(splits\); there are: one/x\.json, "):
        opened(tmp_path, **{"splits/train": "one/*", "splits/test": "four/*"})


def test_several_categories(tmp_path: Path, write_image: Write) -> None:
    """An image of two is refused with count and example, or left out and told; so is one without any."""
    write_image(tmp_path / "0.png")
    found = content(6)
    found["annotations"] = [*found["annotations"][:4], found["annotations"][0] | {"category_id": 7}]
    for split in ("train", "test"):
        images = [image | {"file_name": f"{split}{image['file_name']}"} for image in found["images"]]
        write_image(tmp_path / images[0]["file_name"])
        write_image(tmp_path / images[1]["file_name"])
        write(tmp_path / f"{split}.json", found | {"images": images})
    with pytest.raises(UserError, match=r"1 of 6 images show several categories, as test0\.png \(owl and wren\): say"):
        opened(tmp_path)
    data = opened(tmp_path, several="skip")
    assert names(data, "train") == ["train1.png", "train2.png", "train3.png"]
    assert data.not_taken() == [
        "1 not taken, a class without an image: birds",
        "2 not taken, an image of several categories: test0.png, ...",
        "4 not taken, an image without an annotation: test4.png, ...",
    ]


def edited(part: str, place: int, **changes: Any) -> dict[str, Any]:
    """The content with an entry changed."""
    found = content()
    found[part][place] |= changes
    return found


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("{", "cannot be read: Expecting property name"),
        ([], "has no list of images: it is not COCO's JSON"),
        ({"images": [], "annotations": []}, "has no list of categories"),
        (edited("images", 1, id=100), "entry 2 of images has the id 100, as another before"),
        (edited("images", 1, id="a"), "entry 2 of images has no whole number for id"),
        (edited("images", 1, file_name=""), "entry 2 of images has no file_name"),
        (edited("images", 1, file_name="./0.png"), "images has 0.png twice"),
        (edited("images", 1, file_name="../../0.png"), r"'\.\./\.\./0\.png' leads out of its folder"),
        (edited("annotations", 1, image_id=5), "entry 2 of annotations has 5, which images lack"),
        (edited("annotations", 2, category_id=5), "entry 3 of annotations has 5, which categories lack"),
        (edited("annotations", 2, category_id=None), "entry 3 of annotations has no whole number for category_id"),
        (edited("categories", 0, name="owl"), "two categories are called 'owl'"),
        (edited("categories", 0, name=7), "entry 1 of categories has no name"),
        (edited("categories", 0, name="crow"), "category 7 is 'crow', in another file 'wren'"),
    ],
)
def test_mistakes(tmp_path: Path, write_image: Write, what: object, words: str) -> None:
    """Each is one line that names the file and the entry."""
    for split in ("train", "test"):
        write_image(tmp_path / split / "0.png")
    write(tmp_path / "test" / "_annotations.coco.json", content())
    write(tmp_path / "train" / "_annotations.coco.json", what)
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert re.search(words, str(caught.value)), caught.value
    assert re.search(r"/(train|test)/_annotations\.coco\.json", str(caught.value))
    assert "\n" not in str(caught.value)


def test_wrong_folders(tmp_path: Path, write_image: Write) -> None:
    """One that is not there, one without JSON, and an image in two splits."""
    with pytest.raises(UserError, match="set root"):
        make("coco_classification")
    with pytest.raises(UserError, match="there is no /no/such"):
        make("coco_classification", root="/no/such")
    with pytest.raises(UserError, match=r"has no \.json file"):
        opened(tmp_path)
    write_image(tmp_path / "0.png")
    for split in ("train", "test"):
        write(tmp_path / f"{split}.json", content())
    with pytest.raises(UserError, match=r"has 0\.png in the test and in the train split"):
        opened(tmp_path)
