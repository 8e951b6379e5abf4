"""One epoch of every method on whole backbones with random weights, from a file: two classes, four images."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune import cli
from cotuning_tune.methods import names

EXPERIMENT = """\
[experiment]
tasks = ["mine"]
methods = {methods}
backbone = "{backbone}"
weights = "random"

[task]
size = {side}
resize = {side}

[data.mine]
format = "image_folder"
root = "pictures"

[train]
epochs = 1
batch_size = 2
[train.optim]
lr = 1e-4  # from random weights
"""
needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None,
    reason="NOT TESTED: needs pip install 'cotuning_tune[timm]'",
)
BACKBONES = [
    pytest.param("resnet50", 64, ["delta/attention=false"], id="resnet50"),
    pytest.param("densenet121", 64, [], id="densenet121"),
    pytest.param("vit_b_16", 224, [], id="vit_b_16", marks=pytest.mark.proof),
    pytest.param("timm/resnet18.a1_in1k", 32, [], id="timm", marks=needs_timm),
]


@pytest.mark.parametrize(("backbone", "side", "pins"), BACKBONES)
def test_every_method_trains_it(
    tmp_path: Path,
    image_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    backbone: str,
    side: int,
    pins: list[str],
) -> None:
    """``train`` ends well for every method, with one epoch trained and validated; or it says what the method lacks."""
    image_folder(count=2)
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT.format(methods=names(), backbone=backbone, side=side))
    for name in names():
        if name == "stoch_norm" and backbone.startswith("vit"):
            assert cli.main(["train", str(path), "--method", name]) == 2
            assert "replaces BatchNorm" in capsys.readouterr().err
            continue
        own = [part for pin in pins if pin.startswith(f"{name}/") for part in ("--set", pin)]
        assert cli.main(["train", str(path), "--method", name, *own]) == 0, capsys.readouterr().err
        assert "validation accuracy" in capsys.readouterr().out
