"""``init``: a first experiment for a folder of photos, which reads, checks and says why."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.experiment import read_experiment
from cotuning_tune.pipeline import propose
from tests.cli.test_cli import check_one_line

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def photos(tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two classes of ten photos, for a backbone that is probed in no time."""
    monkeypatch.setattr(propose, "BACKBONES", {"cpu": ("tiny_cnn",), "gpu": ("tiny_cnn",)})
    monkeypatch.chdir(tmp_path)
    return image_folder(splits=(), count=10, folder="my photos")


def test_the_file_can_be_run(call: Call, photos: Path) -> None:
    """It is named after the folder, each line says why, it checks without a problem, and the next commands are said."""
    code, out, _ = call("init", photos)
    path = photos.parent / "my_photos.toml"
    lines = [line for line in path.read_text().splitlines() if " = " in line]
    found = read_experiment(path)
    assert code == 0
    assert [line for line in lines if "  # " not in line] == []
    assert out[-2:] == ["  cotuning-tune check my_photos.toml", "  cotuning-tune run my_photos.toml"]
    assert "about " in next(line for line in lines if line.startswith("trials"))
    assert (found.config.tasks, found.config.metric, found.data["my_photos"]["root"]) == (
        ("my_photos",),
        "",
        str(photos),
    )
    assert call("check", path, "--no-probe")[0] == 0


def test_a_file_is_not_replaced(call: Call, photos: Path) -> None:
    """What is there stays, unless --force says otherwise."""
    path = photos.parent / "mine.toml"
    path.write_text("mine")
    check_one_line(call("init", photos, "--out", path), ["mine.toml", "--force"])
    assert path.read_text() == "mine"
    assert call("init", photos, "--out", path, "--force")[0] == 0
    assert "my_photos" in path.read_text()


def test_what_takes_too_long_is_made_smaller(call: Call, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is too slow for anything the least is proposed."""
    monkeypatch.setattr(propose, "MOST_S", {"cpu": 0.0, "gpu": 0.0})
    assert call("init", photos)[0] == 0
    found = read_experiment(photos.parent / "my_photos.toml")
    assert found.config.trials == propose.LEAST_TRIALS
    assert found.train["epochs"].first == propose.LEAST_EPOCHS


def test_uneven_classes_and_leaks(call: Call, photos: Path, write_image: Callable[..., Path]) -> None:
    """Classes of very different sizes count alike; photos in two splits are left out of one."""
    whole = photos.parent / "parted"
    for split in ("train", "test"):
        for seed in range(10):
            write_image(whole / split / "a" / f"{seed}.jpg", seed + (0 if split == "train" else 9))
    for seed in range(3):
        write_image(whole / "train" / "b" / f"{seed}.jpg", 100 + seed)
        write_image(whole / "test" / "b" / f"{seed}.jpg", 200 + seed)
    assert call("init", whole)[0] == 0
    found = read_experiment(photos.parent / "parted.toml")
    assert (found.config.metric, found.task["duplicates"]) == ("mean_class_accuracy", "drop")
    assert call("check", photos.parent / "parted.toml", "--no-probe")[0] == 0


def test_a_broken_photo_is_said(call: Call, photos: Path) -> None:
    """The file is written, and the reason why it is not planned stands below it."""
    (photos / "a" / "3.jpg").write_bytes(b"x")
    code, out, _ = call("init", photos)
    assert code == 0
    assert any(line.startswith("problem: ") and "a/3.jpg" in line for line in out)
    assert call("check", photos.parent / "my_photos.toml", "--no-probe")[0] == 2


@pytest.mark.parametrize("name", ["texts.conll", "nowhere", "empty"])
def test_what_holds_no_photos(call: Call, photos: Path, name: str) -> None:
    """A file of texts, no folder, or an empty one is refused in one line, and nothing is written."""
    (photos.parent / "texts.conll").touch()
    (photos.parent / "empty").mkdir()
    code, out, err = call("init", photos.parent / name)
    assert (code, out) == (2, [])
    assert name in err[-1]
    assert not list(photos.parent.glob("*.toml"))
