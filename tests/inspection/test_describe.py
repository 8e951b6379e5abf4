"""``data describe``: counts as training will see them, and a contact sheet of training images alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.inspection.contact_sheet import chosen_classes, draw_sheet, plain_letters
from cotuning_tune.inspection.describe import Description, describe
from cotuning_tune.inspection.splits import DataSplit
from tests.inspection.conftest import Call, WriteImage

Folder = Callable[..., Path]
SMALL = TaskConfig(size=8, resize=8)


def rows(out: list[str], first: str) -> list[str]:
    """The studies of the table row that starts with ``first``."""
    (line,) = [line for line in out if line.startswith(f"| {first} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def describe_folder(call: Call, root: Path, *more: object) -> list[str]:
    code, out, err = call("data", "describe", "image_folder", "--root", root, "--sheet", root / "sheet.png", *more)
    assert (code, err) == (0, [])
    return out


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test"), ()])
def test_split_is_the_tasks(call: Call, image_folder: Folder, splits: tuple[str, ...]) -> None:
    """At every rate as many images train and validate as the task really has, with or without a val split."""
    root = image_folder(splits, count=9)
    out = describe_folder(call, root)
    for rate in (0.15, 0.3, 0.5, 1.0):
        task = open_task("mine", rate, SMALL, {"root": str(root)}, "image_folder")
        assert rows(out, f"{100 * rate:g} %")[1:] == [str(len(task.train)), str(len(task.val))]


def test_balance(call: Call, image_folder: Folder) -> None:
    """Smallest, middle and largest class of each split; classes without an image there count as 0."""
    root = image_folder(("train", "val", "test"), classes="abc", count=4)
    for number in (1, 2, 3):
        (root / f"train/b/{number}.jpg").unlink()
    shutil.rmtree(root / "val/c")
    out = describe_folder(call, root, "--rates", 1)
    assert rows(out, "train") == ["train", "9", "1", "4", "4"]
    assert rows(out, "val") == ["val", "8", "0", "4", "4"]
    assert rows(out, "test") == ["test", "12", "4", "4", "4"]


def test_sides(call: Call, image_folder: Folder, write_image: WriteImage) -> None:
    """Sides are those of training images, in pixels, whichever way they lie."""
    root = image_folder(count=1)
    write_image(root / "train/a/high.png", side=(10, 300))
    write_image(root / "test/a/huge.png", side=(900, 900))
    out = describe_folder(call, root)
    assert rows(out, "shorter side")[1:] == ["10", "16", "16"]
    assert rows(out, "longer side")[1:] == ["20", "20", "300"]


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    return {tuple(map(int, colour)) for colour in np.unique(pixels, axis=0)}


def test_only_training_images_are_shown(call: Call, image_folder: Folder) -> None:
    """The sheet holds no image of the test split, and none that the task keeps for validation."""
    root = image_folder(count=10)
    for number, path in enumerate(root.rglob("*.jpg")):
        path.unlink()
        Image.new("RGB", (16, 16), "red" if "train" in path.parts else "blue").save(path, "BMP")
        with path.open("ab") as file:
            file.write(b"%d" % number)  # the same colour, other bytes
    task = open_task("mine", 1.0, SMALL, {"root": str(root)}, "image_folder")
    for name in task.val.names:
        Image.new("RGB", (16, 16), "lime").save(root / name, "BMP")
        with (root / name).open("ab") as file:
            file.write(name.encode())
    describe_folder(call, root)
    seen = colours(root / "sheet.png")
    assert (255, 0, 0) in seen
    assert not {(0, 0, 255), (0, 255, 0)} & seen


def test_the_sheet_is_the_same_every_time(call: Call, image_folder: Folder, tmp_path: Path) -> None:
    """The same data set gives the same file, byte by byte, wherever it lies."""
    root = image_folder(count=8)
    describe_folder(call, root)
    shutil.copytree(root, tmp_path / "copy")
    describe_folder(call, tmp_path / "copy")
    assert (root / "sheet.png").read_bytes() == (tmp_path / "copy" / "sheet.png").read_bytes()


def test_the_sheet_has_the_kinds_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --sheet it is written into the current folder, named after the data set."""
    monkeypatch.chdir(tmp_path)
    assert call("data", "describe", "synthetic")[0] == 0
    with Image.open("synthetic.png") as sheet:
        assert sheet.format == "PNG"


def test_unreadable_training_images(call: Call, image_folder: Folder) -> None:
    """A broken training image does not stop the sheet: its place says so, and verify is recommended."""
    root = image_folder(classes="ab", count=4)
    for path in (root / "train/a").iterdir():
        path.write_bytes(b"broken" + path.name.encode())
    out = describe_folder(call, root)
    assert out[-1] == "3 of them cannot be read: see 'data verify'"
    named = "train/a/0.jpg, train/a/1.jpg, train/a/2.jpg and 1 more"
    assert f"4 of 8 training images cannot be opened: {named}; see 'data verify'" in out


@pytest.mark.parametrize(("total", "count"), [(1, 1), (40, 40), (41, 40), (200, 40)])
def test_chosen_classes(total: int, count: int) -> None:
    """All classes up to 40; of more, 40 different ones spread from the first to the last tenth."""
    chosen = chosen_classes(total)
    assert len(set(chosen)) == len(chosen) == count
    assert chosen[0] == 0
    assert 0.9 * total <= chosen[-1] + 1 <= total


def test_long_names_are_cut(write_image: WriteImage, tmp_path: Path) -> None:
    """A name wider than its images is cut: nothing is drawn beyond the block or over the next column."""
    write_image(tmp_path / "x.png")
    split = DataSplit("train", ["x.png"], [0], root=tmp_path)
    short, long = (
        np.asarray(draw_sheet("mine", Description((name,), [split], [], [], [0])).picture)
        for name in ("W" * 10, "W" * 400)
    )
    assert short.shape == long.shape
    assert (long[:, -20:] == 255).all()
    assert (long[60:82] != short[60:82]).any()


def test_plain_letters() -> None:
    """Class names are drawn in letters that the font has, not as empty boxes."""
    assert (
        plain_letters("001.Ångström & Søn\n")
        == plain_letters("001.A\u030angstro\u0308m & Søn\n")
        == "001.Ångström & Søn "
    )
    assert plain_letters("жук 猫\t") == "жук ??"


def test_images_that_are_no_files() -> None:
    """A set without files has no sides to tell, and its images are shown all the same."""
    from cotuning_tune.data.images.synthetic import Synthetic

    found = describe(Synthetic(Synthetic.Config(classes=3), 96), SMALL, [1.0])
    sheet = draw_sheet("made up", found)
    assert found.sizes == []
    assert (sheet.classes, sheet.unreadable) == (3, [])
    assert found.shown == sorted(set(found.shown))
