"""An ONNX model with its preprocessing inside takes images as they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from cotuning_tune.base.files import read_json
from cotuning_tune.base.pixels import centre_crop
from cotuning_tune.export.bundle import open_bundle
from cotuning_tune.export.predict import predictions
from cotuning_tune.export.whole import Whole
from cotuning_tune.runs.folder import RunDir
from tests.export.conftest import CELL

Call = Callable[..., tuple[int, list[str], list[str]]]
SIDES = [(40, 31), (31, 40), (28, 28), (7, 9), (300, 20), (131, 500)]


def test_pixels_are_pillows_to_one_grey_level() -> None:
    """Resized down and up, wide and high; an image of the stored side is not changed at all."""
    network, draw = Whole(nn.Identity(), 28, 23), np.random.default_rng(0)
    for sides in SIDES:
        images = draw.integers(0, 256, (2, *sides, 3), dtype=np.uint8)
        resized = [Image.fromarray(one).resize((28, 28), Image.Resampling.BILINEAR) for one in images]
        expected = np.stack([centre_crop(np.asarray(one).transpose(2, 0, 1), 23) for one in resized]).astype(float)
        found = network(torch.from_numpy(images)).numpy()
        assert np.abs(found - expected).max() <= (0 if sides == (28, 28) else 1), sides


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_run: RunDir) -> Path:
    """The co-tuning study's ONNX model with its preprocessing inside."""
    from cotuning_tune import cli

    folder = tmp_path_factory.mktemp("whole") / "export"
    given = ["export", str(small_run.path), "--study", CELL, "--format", "onnx", "--with-preprocessing"]
    assert cli.main([*given, "--out", str(folder)]) == 0
    return folder


def test_images_of_any_size_in_batches_of_any_size(whole: Path, exports: dict[str, Path]) -> None:
    """onnxruntime's logits are those of the module in torch before the classifier without it, whatever the sides."""
    sessions = [onnxruntime.InferenceSession(path / "model.onnx") for path in (whole, exports["onnx"])]
    found = read_json(whole / "model.json")
    assert found["input"]["shape"] == ["batch", "height", "width", 3]
    assert found["preprocessing"]["inside"] == ["resize", "crop", "normalise"]
    assert read_json(exports["onnx"] / "model.json")["preprocessing"]["inside"] == []
    crops_of, draw = Whole(nn.Identity(), 28, 23), np.random.default_rng(1)
    for count, sides in enumerate(SIDES, 1):
        images = draw.integers(0, 256, (count, *sides, 3), dtype=np.uint8)
        crops = crops_of(torch.from_numpy(images)).numpy().astype(np.uint8)
        (given,), (expected,) = sessions[0].run(None, {"images": images}), sessions[1].run(None, {"images": crops})
        assert given.shape == (count, 3)
        assert np.allclose(given, expected, atol=0.02)  # a tie may fall to the next grey level


def test_predict_with_it(whole: Path, exports: dict[str, Path], clothes: Path) -> None:
    """``predict`` gives it what Pillow resized: the probabilities of the model without preprocessing, exactly."""
    found, expected = ([*predictions(open_bundle(path), clothes / "test")] for path in (whole, exports["onnx"]))
    assert [one.path for one in found] == [one.path for one in expected]
    every = [np.stack([one.probabilities_T for one in side]) for side in (found, expected)]
    assert np.allclose(*every, atol=1e-6)


def test_the_card_says_what_is_inside(whole: Path, exports: dict[str, Path]) -> None:
    """The card names the input and what is not inside; the other card does not."""
    text = (whole / "README.md").read_text()
    assert (
        "Input `images`: uint8 [batch, height, width, 3], RGB. Inside the model the image is resized to 28 x 28" in text
    )
    assert "Not inside are decoding and EXIF orientation" in text
    assert "Inside the model" not in (exports["onnx"] / "README.md").read_text()


def test_it_is_an_export_of_its_own(whole: Path, small_run: RunDir, call: Call) -> None:
    """Other formats have no such option; the model without preprocessing does not replace the one with it."""
    words = ["export", small_run.path, "--study", CELL, "--out", whole]
    assert call(*words, "--format", "torchscript", "--with-preprocessing")[2] == [
        "cotuning-tune: --with-preprocessing goes with --format onnx, not with torchscript"
    ]
    held = f"cotuning-tune: {whole} holds the export of another model: name a new folder with --out"
    assert call(*words, "--format", "onnx")[2] == [held]
