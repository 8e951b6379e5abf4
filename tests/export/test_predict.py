"""The exported folder alone classifies as the project's own evaluation, also where most packages are missing."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torchvision.transforms.v2 import functional as F

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.base.pixels import centre_crop
from cotuning_tune.export.bundle import digest
from cotuning_tune.export.predict import softmax
from cotuning_tune.export.torch_model import read_safetensors
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.training import TrainingJob, TrainingSpec
from tests.export.conftest import CELL, CLASSES

SEARCHING = ("ray", "optuna", "tensorboard", "safetensors", "timm", "matplotlib", "sklearn", "scipy", "pandas")
ONNX = ("onnx", "onnxscript", "onnxruntime")
TORCH = ("torch", "torchvision", "onnx", "onnxscript")
PREDICT = """
import json, sys
blocked, calls = json.loads(sys.argv[1])
for name in blocked:
    sys.modules[name] = None
from cotuning_tune import cli
sys.exit(max(cli.main(["predict", *call]) for call in calls))
"""


def predict_without(blocked: Sequence[str], calls: Sequence[Sequence[object]]) -> subprocess.CompletedProcess[str]:
    """``predict`` with each call's arguments in a process where these packages cannot be imported."""
    given = json.dumps([blocked, [[str(argument) for argument in call] for call in calls]])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PREDICT, given]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.fixture(scope="module")
def evaluated(small_run: RunDir) -> tuple[dict[str, str], float]:
    """The class of each test image and the accuracy by the project's own test evaluation, from the run's files."""
    folder = small_run.study(CELL).retrain(0)
    job = TrainingJob(TrainingSpec.from_json(read_json(folder.config)["spec"]))
    trainer = job.trainer
    trainer.model.load_state_dict(load_file(folder.model))
    split = trainer.task.open_test()
    accuracy = trainer.evaluate(split).value
    assert accuracy == read_json(folder.result)["test_score"]
    with torch.no_grad():
        best = trainer._logits(split.stored(range(len(split))), "centre").argmax(1).tolist()
    return {name: trainer.task.class_names[b] for name, b in zip(split.names, best, strict=True)}, accuracy


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("formats", "blocked"),
    [(("safetensors", "torchscript"), SEARCHING + ONNX), (("onnx",), SEARCHING + TORCH)],
    ids=["torch alone", "onnxruntime alone"],
)
def test_the_same_classes(
    formats: tuple[str, ...],
    blocked: tuple[str, ...],
    exports: dict[str, Path],
    evaluated: tuple[dict[str, str], float],
    clothes: Path,
    tmp_path: Path,
) -> None:
    """With torch alone, and with onnxruntime and without torch: the evaluation's class for every test image."""
    exported = {name: shutil.copytree(exports[name], tmp_path / name) for name in formats}
    calls = [(path, clothes, "--out", tmp_path / f"{name}.csv") for name, path in exported.items()]
    done = predict_without(blocked, calls)
    assert done.returncode == 0, done.stderr
    expected, accuracy = evaluated
    assert len(set(expected.values())) > 1  # else a constant would do
    for name in formats:
        found = {row["path"]: row["class"] for row in _rows(tmp_path / f"{name}.csv") if row["path"].startswith("test")}
        assert found == expected
        right = [path.split("/")[1] == given for path, given in found.items()]
        assert 100 * sum(right) / len(right) == accuracy


def test_without_its_package(exports: dict[str, Path], clothes: Path) -> None:
    """A missing torch, or onnxruntime, is one line that says what is needed; exit code 2."""
    done = predict_without(("torch", "onnxruntime"), [(exports["torchscript"], clothes), (exports["onnx"], clothes)])
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert "a torchscript model needs torch, which is not installed" in first
    assert "pip install onnxruntime" in second


def test_table(exports: dict[str, Path], clothes: Path, call: Callable[..., tuple[int, list[str], list[str]]]) -> None:
    """A line an image, sorted by path; the probabilities add up to 1 and the class has the largest."""
    code, out, err = call("predict", exports["safetensors"], clothes / "test")
    assert (code, err) == (0, [])
    rows = list(csv.DictReader(out))
    assert [row["path"] for row in rows] == sorted(
        f"{name}/{n}.{'jpg' if n % 2 else 'png'}" for name in CLASSES for n in range(9)
    )
    assert list(rows[0]) == ["path", "class", "probability", "p(bag)", "p(pullover)", "p(trouser)"]
    for row in rows:
        every = {name: float(row[f"p({name})"]) for name in CLASSES}
        assert sum(every.values()) == pytest.approx(1, abs=2e-6)
        assert max(every.values()) == every[row["class"]] == float(row["probability"])


def test_unreadable_images(
    exports: dict[str, Path],
    clothes: Path,
    tmp_path: Path,
    call: Callable[..., tuple[int, list[str], list[str]]],
) -> None:
    """Broken files are named in one line and left out; where there is nothing else that is exit code 2 and no table."""
    shutil.copy(clothes / "test" / "bag" / "0.png", tmp_path / "whole.png")
    (tmp_path / "broken.jpg").write_bytes(b"none")
    (tmp_path / "notes.txt").write_text("no image")
    code, out, err = call("predict", exports["safetensors"], tmp_path)
    assert (code, len(out)) == (0, 2)
    assert err == [
        f"cotuning-tune: 1 image(s) in {tmp_path} cannot be read and are left out: broken.jpg (no image that is known)",
        f"cotuning-tune: {tmp_path}: 1 not taken, no image: notes.txt",
    ]
    (tmp_path / "whole.png").write_bytes(b"")
    table = tmp_path / "table.csv"
    code, out, err = call("predict", exports["safetensors"], tmp_path, "--out", table)
    assert (code, out, table.exists()) == (2, [], False)
    assert err[0].startswith(f"cotuning-tune: no image in {tmp_path} can be read: broken.jpg (")


def test_mistakes(
    exports: dict[str, Path],
    clothes: Path,
    tmp_path: Path,
    call: Callable[..., tuple[int, list[str], list[str]]],
) -> None:
    """No export, no folder, no image, a model file that was altered, a table that cannot be written: one line each."""
    export = shutil.copytree(exports["safetensors"], tmp_path / "export")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert call("predict", clothes, clothes)[2] == [
        f"cotuning-tune: no exported model in {clothes}: model.json is missing there"
    ]
    assert call("predict", export, tmp_path / "none")[2] == [f"cotuning-tune: there is no folder {tmp_path / 'none'}"]
    assert call("predict", export, empty)[2][0].startswith(f"cotuning-tune: {empty} holds no image (known: .jpg")
    code, _, err = call("predict", export, clothes, "--out", empty)
    assert (code, err) == (2, [f"cotuning-tune: {empty} cannot be written: Is a directory"])
    with (export / "model.safetensors").open("ab") as file:
        file.write(b"x")
    code, _, err = call("predict", export, clothes)
    assert code == 2
    assert err == [f"cotuning-tune: {export}/model.safetensors is damaged, or not the file that model.json describes"]


def test_a_foreign_model_file(
    exports: dict[str, Path],
    clothes: Path,
    tmp_path: Path,
    call: Callable[..., tuple[int, list[str], list[str]]],
) -> None:
    """A file that the format's reader refuses is one line and exit code 2 in each format."""
    for name, path in exports.items():
        export = shutil.copytree(path, tmp_path / name)
        description = read_json(export / "model.json")
        (export / description["file"]).write_bytes(b"nothing like it")
        (export / "model.json").write_text(json.dumps({**description, "sha256": digest(b"nothing like it")}))
        code, out, err = call("predict", export, clothes)
        assert (code, out, len(err)) == (2, [], 1), name


def test_safetensors_are_read_as_their_package_reads_them() -> None:
    """Every kind of number, scalars and empty tensors; a file that is cut off is refused."""
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8)
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(7), "empty": torch.empty(0, 3), "bool": torch.tensor([True, False])}
    data = save(tensors, {"format": "pt"})
    found = read_safetensors(data)
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key
    with pytest.raises(UserError, match="damaged"):
        read_safetensors(data[:-3])


@pytest.mark.parametrize("side", [8, 9, 10, 11])
def test_the_crop_is_torchvisions(side: int) -> None:
    """The same pixels as torchvision's centre crop, for even and odd sides."""
    image = np.random.default_rng(side).integers(0, 256, (3, side, side), dtype=np.uint8)
    for size in range(1, side + 1):
        assert np.array_equal(centre_crop(image, size), F.center_crop(torch.from_numpy(image), [size, size]).numpy())


def test_softmax_of_large_logits() -> None:
    """Logits of a thousand do not overflow; the probabilities are torch's."""
    logits = np.array([[1000.0, 999.0, -1000.0]], dtype=np.float32)
    assert np.allclose(softmax(logits), torch.from_numpy(logits).double().softmax(1).numpy(), atol=1e-12)


def test_sixteen_bit_images_are_scaled(tmp_path: Path) -> None:
    """A 16-bit file gives the pixels of its 8-bit copy, as in training."""
    from cotuning_tune.export.predict import pixels_of

    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(eight.astype(np.uint16) << 8).save(tmp_path / "16.png")
    seen = [pixels_of(tmp_path / name, {"resize": 16, "crop": 16}) for name in ("8.png", "16.png")]
    assert np.array_equal(*seen)
