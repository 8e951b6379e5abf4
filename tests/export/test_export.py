"""What an export holds, what it says of itself, and what is refused."""

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cotuning_tune import models
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.export import FORMATS, write
from cotuning_tune.export.bundle import Bundle, Classify
from cotuning_tune.export.chosen import find_winner
from cotuning_tune.export.torch_model import read_safetensors
from cotuning_tune.export.write import export
from cotuning_tune.runs.folder import RunDir
from tests.export.conftest import CELL, EXPERIMENT, retrain, write_search

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def copied(small_run: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the run to change."""
    return RunDir(shutil.copytree(small_run.path, tmp_path / "small", ignore=shutil.ignore_patterns("export")))


def _export(call: Call, run: RunDir, *more: object, study: str = CELL, kind: str = "safetensors") -> list[str]:
    """The lines of ``export``: on standard output where it went well, else the error's."""
    code, out, err = call("export", run.path, "--study", study, "--format", kind, *more)
    assert code == (2 if err else 0)
    return err or out


@pytest.mark.parametrize("name", list(FORMATS))
def test_description(name: str, exports: dict[str, Path]) -> None:
    """The folder holds model, card and description; classes, sizes, normalisation and the check stand there."""
    assert {path.name for path in exports[name].iterdir()} == {"README.md", "model.json", FORMATS[name]}
    found = read_json(exports[name] / "model.json")
    assert found["classes"] == ["bag", "pullover", "trouser"]
    assert found["input"]["shape"] == ["batch", 3, 23, 23]
    assert [found["preprocessing"][key] for key in ("resize", "crop")] == [28, 23]
    assert found["preprocessing"]["mean"] == [127.5] * 3
    assert [found[key] for key in ("method", "backbone", "seed", "rate")] == ["co_tuning", "tiny_cnn", 0, 1.0]
    assert found["check"]["other_class"] == 0
    assert found["check"]["images"] == 6
    assert found["check"]["largest_difference"] < 1e-4
    assert found["versions"]["torch"]


@pytest.mark.parametrize("kind", list(FORMATS))
def test_what_is_kept_is_exported(kind: str, clothes: Path, tmp_path: Path, call: Call) -> None:
    """Merged adapters and interpolated weights, retrained and tested, are read back as the plain network they are."""
    run = RunDir(tmp_path / "kept")
    write_search(run, EXPERIMENT.format(root=clothes).replace('"fine_tune", "co_tuning"', '"lora", "wise_ft"'))
    retrain(run, (0,))
    for name in ("lora", "wise_ft"):
        out = tmp_path / name
        _export(call, run, "--out", out, study=f"clothes-1.00-{name}", kind=kind)
        assert read_json(out / "model.json")["check"]["other_class"] == 0


def test_the_target_network_alone(exports: dict[str, Path], small_run: RunDir) -> None:
    """The weights are the retrained ones bit for bit; the source head has stayed behind."""
    found = read_safetensors((exports["safetensors"] / "model.safetensors").read_bytes())
    retrained = read_safetensors(small_run.study(CELL).retrain(0).model.read_bytes())
    assert {key for key in retrained if key not in found} == {"source_head.weight", "source_head.bias"}
    assert all(found[key].equal(retrained[key]) for key in found)


def test_card(exports: dict[str, Path], small_run: RunDir) -> None:
    """The card tells budget, every seed, mean and sample deviation, test evaluations; no test accuracy chose."""
    text = (exports["onnx"] / "README.md").read_text()
    results = [read_json(small_run.study(CELL).retrain(seed).result) for seed in (0, 1)]
    tested = [result["test_score"] for result in results]
    assert f"{np.mean(tested):.2f} ± {np.std(tested, ddof=1):.2f}" in text
    for result in results:
        assert f"{result['val_score']:.2f} | " in text
        assert f"{result['test_score']:.2f} | " in text
    for told in (
        "100 % of its labels: 30 training images, 6 validation images, and 27 test images",
        "a budget of 3 trials, 1 complete, 1 pruned, 1 failed; 5 epochs in all",
        "Neither the configuration nor the seed was chosen by the test split",
        "One seed of 2",
        "had 4 test evaluations in this run, 2 of them for the 2 seed(s) of this study",
        "| optim/lr ",
        "| co_tuning/weight ",
    ):
        assert told in text, told
    assert "The search has finished" not in text  # the failed trial counts as done
    assert str(small_run.path) not in text


def test_card_of_ten_crops_and_bfloat16(copied: RunDir, call: Call, tmp_path: Path) -> None:
    """What was tested otherwise than the export computes is said; so is a lone seed, an open search, a torn ledger."""
    write_json(copied.environment, {"gpus": ["a GPU"]})
    folder = copied.study(CELL)
    write_json(folder.summary, read_json(folder.summary) | {"budget": 4})
    write_json(folder.retrain(0).result, read_json(folder.retrain(0).result) | {"test_crops": "ten"})
    write_json(folder.retrain(1).result, read_json(folder.retrain(1).result) | {"state": "FAIL", "reason": "nan"})
    lines = copied.ledger.read_text().splitlines()
    copied.ledger.write_text("\n".join(lines[1:]) + "\n")
    _export(call, copied, "--out", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for told in (
        "of ten crops",
        "trained in bfloat16",
        "There is one seed alone",
        "1 seed(s) of this configuration failed",
        "The search has finished 3 of 4 trials",
        "the ledger of these test evaluations has been altered",
    ):
        assert told in text, told


def test_the_lowest_complete_seed(copied: RunDir, call: Call, tmp_path: Path) -> None:
    """A failed seed 0 gives way to seed 1; a better test accuracy does not move the choice; ``--seed`` names one."""
    assert find_winner(copied, CELL).seed == 0
    first, second = (copied.study(CELL).retrain(seed).result for seed in (0, 1))
    write_json(second, read_json(second) | {"test_score": 100.0})
    assert find_winner(copied, CELL).seed == 0
    assert find_winner(copied, CELL, 1).seed == 1
    write_json(first, read_json(first) | {"state": "FAIL", "reason": "not finite"})
    assert "seed 1" in _export(call, copied, "--out", tmp_path / "out")[0]
    assert _export(call, copied, "--seed", 0) == [f"cotuning-tune: {CELL}: seed 0 failed (not finite); possible: 1"]
    assert _export(call, copied, "--seed", 7) == [f"cotuning-tune: {CELL} has no retrained seed 7; possible: 1"]


def test_refusals(copied: RunDir, call: Call) -> None:
    """An unknown study names all; no retraining, an earlier selection's, no model file, no run: one line each."""
    assert _export(call, copied, study="clothes-1.00-cotuning") == [
        "cotuning-tune: no study 'clothes-1.00-cotuning', did you mean 'clothes-1.00-co_tuning'?"
        " there are: clothes-1.00-co_tuning, clothes-1.00-fine_tune"
    ]
    folder = copied.study(CELL)
    folder.retrain(0).model.unlink()
    assert _export(call, copied) == [f"cotuning-tune: {folder.retrain(0).model} is missing"]
    write_json(folder.selection, read_json(folder.selection) | {"config": "other"})
    again = f"cotuning-tune retrain {copied.path}"
    assert _export(call, copied) == [f"cotuning-tune: {CELL} has no retrained model of its present selection: {again}"]
    shutil.rmtree(folder.path / "retrain")
    assert _export(call, copied) == [f"cotuning-tune: {CELL} has no retrained model: {again}"]
    folder.selection.unlink()
    assert "none of its trials succeeded" in _export(call, copied)[0]
    assert "no run in" in _export(call, RunDir(copied.path / "none"))[0]


def test_folders(copied: RunDir, call: Call, tmp_path: Path) -> None:
    """The default folder lies in the run; it may be written again, for nothing else; other things are never touched."""
    assert f"written to {copied.path}/export/{CELL}-seed0-safetensors" in _export(call, copied)[1]
    before = (copied.exports / f"{CELL}-seed0-safetensors" / "model.json").read_text()
    assert _export(call, copied)[1].startswith("written to")
    own = copied.exports / f"{CELL}-seed0-safetensors"
    assert (own / "model.json").read_text() == before
    refused = f"cotuning-tune: {own} holds the export of another model: name a new folder with --out"
    assert _export(call, copied, "--out", own, "--seed", 1) == [refused]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    held = f"cotuning-tune: {mine} holds other things (README.md): name a new folder with --out"
    assert _export(call, copied, "--out", mine) == [held]
    assert (mine / "README.md").read_text() == "mine"
    assert "is a file" in _export(call, copied, "--out", mine / "README.md")[0]


def test_another_class_is_refused(
    small_run: RunDir, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A written model that gives another class for one image is not exported, and nothing is left."""
    opened = write.open_model

    def tampered(data: bytes, description: dict[str, object]) -> Classify:
        classify = opened(data, description)
        return lambda images: np.where(np.arange(len(images))[:, None] == 0, -classify(images), classify(images))

    monkeypatch.setattr(write, "open_model", tampered)
    (line,) = _export(call, small_run, "--out", tmp_path / "out")
    assert line.startswith("cotuning-tune: not exported: as safetensors the model gives another class for 2 of 6")
    assert not (tmp_path / "out").exists()


def test_missing_onnx_packages(small_run: RunDir, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra one line names what is missing and how to get it."""
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else there(name))
    assert _export(call, small_run, "--out", tmp_path / "out", kind="onnx") == [
        "cotuning-tune: --format onnx needs onnx, onnxscript, onnxruntime: pip install 'cotuning_tune[onnx]'"
    ]


def test_weights_that_do_not_fit(copied: RunDir, call: Call) -> None:
    """A model file of another network is refused by name of a tensor, before anything is written."""
    from safetensors.torch import save

    path = copied.study(CELL).retrain(0).model
    path.write_bytes(save({k: v for k, v in read_safetensors(path.read_bytes()).items() if k != "head.bias"}))
    (line,) = _export(call, copied)
    assert line.endswith("do not fit tiny_cnn with co_tuning: see 'head.bias'")
    assert not Bundle(copied.exports).path.exists()


def test_licences() -> None:
    """The licence of weights is what their owners name; of a file it is not known."""
    assert models.licence_of("efficientnet_lite0") == "Apache-2.0"
    assert models.licence_of("efficientnet_lite0", "file.pth") == ""
    assert "LICENSE" in models.licence_of("vit_b_16", "IMAGENET1K_SWAG_E2E_V1")
    assert models.licence_of("resnet50") == models.licence_of("tiny_cnn") == ""
    with pytest.raises(UserError, match="no backbone 'resnet5'"):
        models.licence_of("resnet5")


def test_data_that_have_changed_since(small_run: RunDir, clothes: Path, tmp_path: Path) -> None:
    """A class folder that was renamed, or came to be, or an image that moved: no export gives the model other names."""
    winner = find_winner(small_run, CELL)

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=re.escape(f"began with: {words}: put them back")):
            export(winner, "safetensors", Bundle(tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    def rename(old: str, new: str) -> None:
        for split in ("train", "test"):
            (clothes / split / old).rename(clothes / split / new)

    rename("bag", "hat")
    try:
        refused("the list of classes differs (gone: bag, new: hat); train: 12 of another class (train/bag/0.png, ...)")
    finally:
        rename("hat", "bag")
    try:
        for split in ("train", "test"):
            shutil.copytree(clothes / split / "bag", clothes / split / "sack")
        refused("the list of classes differs (new: sack); train: 12 new (train/sack/0.png, ...)")
    finally:
        for split in ("train", "test"):
            shutil.rmtree(clothes / split / "sack")
    moved, to = clothes / "train" / "bag" / "0.png", clothes / "train" / "pullover" / "new.png"
    moved.rename(to)
    try:
        refused("train: 1 of another class (train/bag/0.png)")
    finally:
        to.rename(moved)
    export(winner, "safetensors", Bundle(tmp_path / "out"))
