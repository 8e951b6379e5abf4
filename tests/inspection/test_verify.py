"""``data verify``: every planted fault is named, and sound images are not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.base.cache import cache_root
from cotuning_tune.data import Task
from cotuning_tune.inspection.verify import check_file
from tests.inspection.conftest import Call, WriteImage

Folder = Callable[..., Path]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_sound(call: Call, image_folder: Folder) -> None:
    """A sound folder gives exit code 0, its counts and no finding; nobody has published counts of it."""
    code, out, err = call("data", "verify", "image_folder", "--root", image_folder(), "--smallest", 16)
    assert (code, err) == (0, [])
    assert "| split   | found |" in out
    assert "| train   |     8 |" in out
    assert "| classes |     2 |" in out
    assert out[-1] == "image_folder: 0 error(s), 0 warning(s) in 16 images"


def plant(root: Path, write_image: WriteImage) -> dict[str, str]:
    """Faults in a folder of images, by kind the file that must be named."""
    truncate(root / "train/a/0.jpg")
    (root / "train/b/0.jpg").write_bytes(b"")
    (root / "train/b/1.jpg").write_text("no image at all")
    shutil.copy(root / "train/a/1.jpg", root / "test/b/leak.jpg")
    shutil.copy(root / "train/a/2.jpg", root / "train/a/again.jpg")
    shutil.copy(root / "train/a/3.jpg", root / "train/b/other.jpg")
    write_image(root / "test/a/tiny.png", 99, side=(40, 5))
    return {
        "truncated": "  train/a/0.jpg: image file is truncated",
        "empty": "  train/b/0.jpg: no bytes in it",
        "text": "  train/b/1.jpg: no image that is known",
        "leak": "  test/b/leak.jpg: the same bytes as train/a/1.jpg of train, class b here and a there",
        "twice": "  train/a/again.jpg: the same bytes as train/a/2.jpg of train",
        "label": "  train/b/other.jpg: the same bytes as train/a/3.jpg of train, class b here and a there",
        "tiny": "  test/a/tiny.png: 40 x 5 pixels",
    }


def test_planted_faults(call: Call, image_folder: Folder, write_image: WriteImage, tmp_path: Path) -> None:
    """Each planted fault is named once, on the screen and in the JSON file; errors give exit code 1."""
    root, file = image_folder(), tmp_path / "found.json"
    wanted = plant(root, write_image)
    code, out, err = call("data", "verify", "image_folder", "--root", root, "--smallest", 16, "--json", file)
    assert (code, err) == (1, [])
    assert {kind: sum(line.startswith(text) for line in out) for kind, text in wanted.items()} == dict.fromkeys(
        wanted, 1
    )
    assert out[-1] == "image_folder: 4 error(s), 3 warning(s) in 20 images"
    found = json.loads(file.read_text())
    assert found["images"] == {"train": 10, "test": 10}
    assert sorted((f["kind"], f["name"], f["error"]) for f in found["findings"]) == [
        ("corrupt", "train/a/0.jpg", True),
        ("corrupt", "train/b/0.jpg", True),
        ("corrupt", "train/b/1.jpg", True),
        ("label", "train/b/other.jpg", False),
        ("leak", "test/b/leak.jpg", True),
        ("tiny", "test/a/tiny.png", False),
        ("twice", "train/a/again.jpg", False),
    ]


def test_leak_into_validation(call: Call, image_folder: Folder) -> None:
    """The same bytes in the training and the published validation split are an error too."""
    root = image_folder(("train", "val", "test"))
    shutil.copy(root / "train/a/1.jpg", root / "val/a/9.jpg")
    code, out, _ = call("data", "verify", "image_folder", "--root", root, "--smallest", 16)
    assert code == 1
    assert "  val/a/9.jpg: the same bytes as train/a/1.jpg of train" in out


def test_warnings(call: Call, image_folder: Folder) -> None:
    """Warnings alone give exit code 0, and 1 with --strict; ten are named, the JSON file holds all."""
    root = image_folder()
    arguments = ("data", "verify", "image_folder", "--root", root, "--smallest", 17)
    code, out, _ = call(*arguments)
    assert code == 0
    assert sum(line.endswith(": 20 x 16 pixels") for line in out) == 10
    assert "  and 6 more; --json FILE names all" in out
    file = root.parent / "all.json"
    assert call(*arguments, "--strict", "--json", file)[0] == 1
    assert len(json.loads(file.read_text())["findings"]) == 16


def test_strange_modes_are_sound(tmp_path: Path) -> None:
    """Grey, palette, transparent, CMYK, 16-bit and animated images that can be decoded are no finding."""
    for mode, ending in (("L", "jpg"), ("P", "png"), ("LA", "png"), ("RGBA", "webp"), ("CMYK", "jpg"), ("1", "png")):
        path = tmp_path / f"{mode}.{ending}"
        Image.new("RGB", (40, 40), "teal").convert(mode).save(path)
        assert check_file(path).problem == ""
    Image.fromarray(np.full((40, 40), 4000, dtype=np.uint16)).save(tmp_path / "deep.png")
    frames = [Image.new("L", (40, 40), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    for name in ("deep.png", "moves.gif"):
        assert check_file(tmp_path / name).size == (40, 40)
        assert check_file(tmp_path / name).problem == ""


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm"])
def test_every_truncated_format_is_found(tmp_path: Path, write_image: WriteImage, ending: str) -> None:
    """A file that ends too early is found whatever its format."""
    path = write_image(tmp_path / f"x.{ending}", side=(64, 64))
    assert check_file(path).problem == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert check_file(path).kind == "corrupt"


def test_missing_files(call: Call, listed: Path) -> None:
    """A file that the list names and that is not there is missing, in whatever split."""
    (listed / "images/1.jpg").unlink()
    (listed / "images/7.jpg").unlink()
    code, out, _ = call("data", "verify", "listed", "--root", listed)
    assert code == 1
    assert "missing (error): 2" in out
    assert "  images/1.jpg: no such file" in out
    assert "  images/7.jpg: no such file" in out


@pytest.mark.parametrize(
    ("classes", "lines", "said"),
    [
        ("wren owl kite", 8, "3 classes instead of the published 2"),
        ("wren owl kite", 8, "kite: no train image"),
        ("wren owl", 7, "1 test images instead of the published 2"),
        ("wren owl", 7, "owl: no test image"),
        ("wren owl", 6, "0 test images instead of the published 2"),
        ("wren owl", 9, "3 test images instead of the published 2"),
    ],
)
def test_counts(call: Call, listed: Path, write_image: WriteImage, classes: str, lines: int, said: str) -> None:
    """Classes and images are counted against the published numbers, a class without an image is named."""
    write_image(listed / "images/8.jpg", 8, side=(48, 40))
    every = [*(listed / "list.txt").read_text().splitlines(), "test images/8.jpg 0"]
    (listed / "list.txt").write_text("\n".join(every[:lines]))
    (listed / "classes.txt").write_text(classes)
    code, out, _ = call("data", "verify", "listed", "--root", listed)
    assert code == 1
    assert f"  {said}" in out


def test_published_counts_are_shown(call: Call, listed: Path) -> None:
    """A complete set stands beside its published counts, and nothing is wrong."""
    code, out, _ = call("data", "verify", "listed", "--root", listed)
    assert code == 0
    assert [line for line in out if line.startswith("| t")] == [
        "| train   |     6 |         6 |",
        "| test    |     2 |         2 |",
    ]


def test_images_that_are_no_files(call: Call) -> None:
    """Made-up images are compared too: without noise every class has one image, in both splits."""
    arguments = ("data", "verify", "synthetic", "--set", "classes=2", "--set", "images=3")
    assert call(*arguments)[0] == 0
    code, out, _ = call(*arguments, "--set", "noise=0")
    assert code == 1
    assert "same bytes in two splits (error): 6" in out
    assert "same bytes twice (warning): 4" in out


def test_the_test_split_stays_shut(call: Call, image_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verifying opens no task's test split and leaves no decoded image in the cache."""

    def refuse(_: Task) -> None:
        raise AssertionError("the test split was opened")

    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(image_folder().parent / "cache"))
    monkeypatch.setattr(Task, "open_test", refuse)
    assert call("data", "verify", "image_folder", "--root", image_folder(), "--smallest", 16)[0] == 0
    assert not cache_root().exists()
