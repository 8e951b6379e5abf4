"""The source head calibrated on a folder of its classes: the temperature is found, kept, and used."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cotuning_tune import cli
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig
from cotuning_tune.models import Pretrained, pretrained
from cotuning_tune.relationship import calibrated

SIZES = TaskConfig(size=8, resize=8)
CPU = torch.device("cpu")
EXPERIMENT = """\
[experiment]
tasks = ["synthetic"]
methods = ["co_tuning"]
backbone = "tiny_cnn"

[task]
size = 8
resize = 8

[train]
epochs = 1
"""


def scaled(source: Pretrained, factor: float) -> Pretrained:
    """The same network with its logits multiplied."""
    head = torch.nn.Linear(64, source.source_head.out_features)
    with torch.no_grad():
        head.weight.copy_(source.source_head.weight * factor)
        head.bias.copy_(source.source_head.bias * factor)
    return dataclasses.replace(source, source_head=head, temperature=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in the folders of classes drawn from tiny_cnn's logits times five: with these it is calibrated."""
    root = tmp_path_factory.mktemp("source") / "val"
    source = pretrained("tiny_cnn")
    pixels = np.random.default_rng(0).integers(0, 256, (240, 8, 8, 3)).astype(np.uint8)
    pixels[::2] //= 4
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    backbone = copy.deepcopy(source.backbone).eval()
    with torch.no_grad():
        odds = (5 * source.source_head(backbone(images)[0])).softmax(1)
    classes = torch.multinomial(odds, 1, generator=torch.Generator().manual_seed(0)).flatten().tolist()
    for number in range(source.source_head.out_features):
        (root / f"n{number:02}").mkdir(parents=True)
        classes[int(odds[:, number].argmax())] = number  # no class without an image
    for number, label in enumerate(classes):
        Image.fromarray(pixels[number]).save(root / f"n{label:02}" / f"{number}.png")
    return root


def test_the_temperature_of_scaled_logits_is_the_factor(folder: Path) -> None:
    """A calibrated network has a temperature near 1; with its logits times 3 it is three times that."""
    source = pretrained("tiny_cnn")
    found = [calibrated(scaled(source, f), str(folder), 240, SIZES, CPU).temperature for f in (5.0, 15.0)]
    assert found[0] == pytest.approx(1.0, rel=0.2)
    assert found[1] / found[0] == pytest.approx(3.0, rel=1e-3)


def test_the_temperature_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second time nothing runs through the network; fewer images, other weights or sizes are fitted anew."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path))
    source, passes = pretrained("tiny_cnn"), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: passes.append(1))
    seen = []
    try:
        for given, count, sizes in (
            (source, 240, SIZES),
            (source, 240, SIZES),
            (source, 50, SIZES),
            (scaled(source, 2.0), 240, SIZES),
            (source, 240, TaskConfig(size=8, resize=10)),
        ):
            before = len(passes)
            calibrated(given, str(folder), count, sizes, CPU)
            seen.append(len(passes) > before)
    finally:
        handle.remove()
    assert seen == [True, False, True, True, True]


def test_classes_in_another_order(folder: Path, tmp_path: Path) -> None:
    """Class folders that are not in the order of the head's classes are refused, not calibrated on."""
    for number in range(12):
        (tmp_path / f"n{(number + 5) % 12:02}").symlink_to(folder / f"n{number:02}")
    with pytest.raises(UserError, match="no better than chance there; its class folders, sorted"):
        calibrated(pretrained("tiny_cnn"), str(tmp_path), 240, SIZES, CPU)


def with_splits(root: Path) -> None:
    (root / "train").mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: None, "has 3 class folders, the source head 12"),
        (with_splits, "has train/: give the folder"),
        (lambda root: root.rename(root.parent / "gone"), "there is no folder"),
    ],
)
def test_a_folder_that_does_not_fit(image_folder, spoil, words: str) -> None:
    """A folder that is missing, has parts or another number of classes than the head is refused in one line."""
    root = image_folder(splits=(), classes="abc")
    spoil(root)
    with pytest.raises(UserError, match=words):
        calibrated(pretrained("tiny_cnn"), str(root), 10, SIZES, CPU)


def test_the_command_line_fits_and_says_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``train --source-val`` prints the temperature that is used; the key of the experiment file does the same."""
    plain, keyed = tmp_path / "plain.toml", tmp_path / "keyed.toml"
    plain.write_text(EXPERIMENT)
    keyed.write_text(EXPERIMENT.replace('"tiny_cnn"', f'"tiny_cnn"\nsource_val = "{folder}"\nsource_val_images = 100'))
    expected = calibrated(pretrained("tiny_cnn"), str(folder), 100, SIZES, CPU).temperature
    options = ["--source-val", str(folder), "--source-val-images", "100"]
    for arguments in ([str(plain), *options], [str(keyed)]):
        assert cli.main(["train", *arguments, "--method", "co_tuning"]) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first == f"calibration temperature of tiny_cnn: {expected:.4f}, fitted on {folder}"
