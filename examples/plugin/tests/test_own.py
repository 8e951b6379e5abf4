"""What conformance cannot know: the formula against a number, and the data set's mistakes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cotuning_tune_example.afn import distance_to_radius
from cotuning_tune_example.prefix_folder import PrefixFolder
from PIL import Image

from cotuning_tune.base.errors import UserError


def test_the_formula() -> None:
    """The distance is that of the mean norm, as the paper has it, not the mean of distances."""
    features = np.random.default_rng(0).normal(size=(5, 7))
    expected = (np.sqrt((features**2).sum(1)).mean() - 25.0) ** 2
    assert distance_to_radius(torch.from_numpy(features), 25.0).item() == pytest.approx(expected)


def made(root: Path | str) -> PrefixFolder:
    return PrefixFolder(PrefixFolder.Config(root=str(root)), 8)


def test_classes_end_at_the_last_underscore(tmp_path: Path) -> None:
    """A class may have underscores itself; other files than images do not count."""
    (tmp_path / "train").mkdir()
    for name in ("blue_jay_1.png", "wren_1.PNG"):
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / name)
    (tmp_path / "train" / "notes_1.txt").touch()
    assert made(tmp_path).class_names == ("blue_jay", "wren")
    assert made(tmp_path).train().labels == [0, 1]


@pytest.mark.parametrize(("name", "said"), [("", "has no images in test/"), ("crow_1.png", "begins with no class")])
def test_mistakes(tmp_path: Path, name: str, said: str) -> None:
    """A folder without test images, and a test image of an unknown class, are one line."""
    for split, image in (("train", "wren_1.png"), ("test", name)):
        (tmp_path / split).mkdir()
        if image:
            Image.new("RGB", (8, 8)).save(tmp_path / split / image)
    with pytest.raises(UserError, match=said):
        made(tmp_path).test()


def test_no_folder() -> None:
    """Without a folder one line says what is needed."""
    with pytest.raises(UserError, match="set root"):
        made("").train()
