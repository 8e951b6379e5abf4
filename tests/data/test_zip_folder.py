"""An image folder inside a zip archive: the same splits, names and mistakes as outside of it."""

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.testing import pixels_of
from tests.data.test_data_sets import Folder, make


def zipped(folder: Path, wrapped: bool) -> Path:
    """The folder as a zip archive, all of it inside one folder or not."""
    base = folder.name if wrapped else "."
    return Path(shutil.make_archive(str(folder) + " all", "zip", folder.parent if wrapped else folder, base))


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("splits", [("Training", "valid", "test"), ()])
def test_as_the_folder(image_folder: Folder, wrapped: bool, splits: tuple[str, ...]) -> None:
    """Names, labels and pixels of each split are those of the folder: the same split is drawn of the same names."""
    root = image_folder(splits, count=5)
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._x.jpg").write_text("")
    expected, found = make("image_folder", root=str(root)), make("image_folder", root=str(zipped(root, wrapped)))
    assert found.class_names == expected.class_names == ("a", "b")
    for one, other in ((expected.train(), found.train()), (expected.test(), found.test())):
        assert (one.names, one.labels) == (other.names, other.labels)
        assert pixels_of(one).equal(pixels_of(other))
    assert (found.val() is None) == (expected.val() is None)


def test_task_is_the_same(image_folder: Folder) -> None:
    """A search over the archive and one over the folder are of the same task."""
    root = image_folder(count=5)
    tasks = [
        open_task("mine", 0.5, TaskConfig(size=8, resize=8), {"root": str(place)}, "image_folder")
        for place in (root, zipped(root, True))
    ]
    assert tasks[0].fingerprint() == tasks[1].fingerprint()


def test_mistakes_name_the_archive(image_folder: Folder) -> None:
    """Not the folder of the cache; what is not taken is told as of a folder, links besides."""
    archive = zipped(image_folder(("train",)), True)
    with pytest.raises(UserError, match=re.escape(f"{archive}/pictures: there is train, but no test split")):
        make("image_folder", root=str(archive))
    archive = zipped(image_folder(classes="a", folder="one"), False)
    with pytest.raises(UserError, match=re.escape(f"{archive}/train holds 1 class folder(s)")):
        make("image_folder", root=str(archive))
    root = image_folder(folder="two")
    (root / "train" / "a" / "notes.txt").write_text("")
    archive = zipped(root, False)
    link = zipfile.ZipInfo("train/a/link.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr(link, "/etc/passwd")
    assert make("image_folder", root=str(archive)).not_taken() == [
        "1 not taken, no image: train/a/notes.txt",
        "1 not taken, a link in an archive: train/a/link.jpg",
    ]
    (root / "bad.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"bad\.zip cannot be unpacked: File is not a zip file"):
        make("image_folder", root=str(root / "bad.zip"))


@pytest.mark.parametrize(
    ("file", "reader"),
    [
        ("metadata.jsonl", "hf_imagefolder"),
        ("train/metadata.csv", "hf_imagefolder"),
        ("dataset_dict.json", "hf_dataset"),
        ("train/_annotations.coco.json", "coco_classification"),
        ("train-0.tar", "webdataset"),
    ],
)
def test_folders_of_other_data_sets(tmp_path: Path, file: str, reader: str) -> None:
    """One that holds no classes, but what another data set reads, points to that."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    (tmp_path / file).write_text("")
    with pytest.raises(UserError, match=rf"holds 0 class folder\(s\).*; there .*: the data set {reader} reads"):
        make("image_folder", root=str(tmp_path))
