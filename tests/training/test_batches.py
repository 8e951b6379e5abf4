"""Batches of one image: refused before anything runs where BatchNorm cannot train on them, used where it can."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import parse
from cotuning_tune.methods import Batch
from cotuning_tune.search.checks import check_studies
from cotuning_tune.training import TrainConfig
from cotuning_tune.training.job import check_batch, source_of
from cotuning_tune.training.order import places

Call = Callable[..., tuple[int, list[str], list[str]]]
TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 2
[data.synthetic]
classes = 2
images = IMAGES
[task]
size = SIDE
resize = SIDE
[train]
epochs = 1
batch_size = BATCH
"""
TORCH = "Expected more than 1 value per channel when training, got input size torch.Size([1, 64, 1, 1])"
LINE = f"tiny_cnn cannot train on batches of 1 of task.size = 8 ({TORCH}): "
CURES = "train.batch_norm = 'frozen', or a larger task.size"
ONE = f"{LINE}train.batch_size = 1; give a train.batch_size of 2 or more, {CURES}"


def text(batch: str = "1", side: int = 8, images: int = 6) -> str:
    return TEXT.replace("SIDE", str(side)).replace("BATCH", batch).replace("IMAGES", str(images))


@pytest.mark.parametrize(
    "batch", ["1", "{ low = 1, high = 8 }", "[4, 1]", "1\nparts = 2", "1\nbatch_norm = ['frozen', 'train']"], ids=str
)
def test_a_batch_of_one_is_refused(batch: str) -> None:
    """Also where it may be drawn alone; the line names the key and every way out."""
    with pytest.raises(UserError) as caught:
        check_studies(parse(text(batch), "one"))
    assert str(caught.value) == ONE


@pytest.mark.parametrize(
    ("batch", "of"),
    [("3\nparts = 2", 3), ("4\nparts = [2, 4]", 4), ("{ low = 4, high = 7 }\nparts = 3", 4), ("48\nparts = 6", 10)],
    ids=str,
)
def test_a_part_of_one_is_refused(batch: str, of: int) -> None:
    """Of any batch and number of parts that may be drawn, also where the split is smaller than the batch."""
    with pytest.raises(UserError) as caught:
        check_studies(parse(text(batch), "part"))
    parts = max(map(int, re.findall(r"\d+", batch.partition("parts = ")[2])))
    cause = f"batches of {of} in train.parts = {parts} have a part of one image"
    assert str(caught.value) == f"{LINE}{cause}; give fewer parts or another train.batch_size, {CURES}"


@pytest.mark.parametrize(("images", "size", "parts"), [(20, 10, 4), (20, 8, 3), (5, 48, 2), (20, 3, 8), (20, 6, 1)])
def test_the_smallest_part(images: int, size: int, parts: int) -> None:
    """It is the smallest that a batch is cut into."""
    config = TrainConfig(batch_size=size, parts=parts)
    batch = Batch((), torch.arange(config.batch(images)), torch.arange(config.batch(images)))
    assert min(len(part.labels) for part in batch.parts(parts)) == config.smallest_part(images)


@pytest.mark.parametrize(
    ("batch", "side"),
    [
        ("4\nparts = 2", 8),
        ("10\nparts = 4", 8),
        ("3\nparts = 2", 16),
        ("2", 8),
        ("[2, 3]", 8),
        ("1\nbatch_norm = 'frozen'", 8),
        ("1", 16),
        ("1", 9),
    ],
)
def test_what_can_train_is_not_refused(batch: str, side: int) -> None:
    """Two images, kept statistics, and a map of more than one pixel are batches to train on."""
    assert check_studies(parse(text(batch, side), "some"))


@pytest.mark.parametrize("command", ["train", "search", "plan"])
def test_every_command_says_so_first(command: str, tmp_path: Path, call: Call) -> None:
    """One line, exit code 2, and no folder of a run."""
    path = tmp_path / "one.toml"
    path.write_text(text())
    options = {"train": ["--method", "bss"], "search": ["--storage", tmp_path / "runs"], "plan": ["--no-probe"]}
    code, out, errors = call(command, path, *options[command])
    assert (code, out, errors) == (2, [], [f"cotuning-tune: {ONE}"])
    assert [p.name for p in tmp_path.iterdir()] == ["one.toml"]


def test_a_larger_map_trains(tmp_path: Path, call: Call) -> None:
    """One image a step, with BatchNorm in training mode."""
    path = tmp_path / "one.toml"
    path.write_text(text(side=16))
    assert call("train", path, "--method", "bss")[0] == 0


def test_a_training_split_of_one_image() -> None:
    """Its batches hold one image whatever their size is, and the line says so."""
    experiment = parse(text("8"), "lone")
    spec = experiment.spec(experiment.studies[0], {}, 0)
    with pytest.raises(UserError) as caught:
        check_batch(spec, source_of(spec), 1)
    cause = "the training split of synthetic at 100 % has one image, whatever train.batch_size is"
    assert str(caught.value) == f"{LINE}{cause}; give more images, {CURES}"


@pytest.mark.parametrize("images", [1, 2, 5, 7, 8, 20])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_batch_is_full(images: int, size: int) -> None:
    """No last batch of an epoch is smaller than the others: of two images or more none holds a single one."""
    config = TrainConfig(batch_size=size)
    drawn = list(places(0, images, config.batch(images), 0, 4 * config.batches(images)))
    assert {len(batch) for batch in drawn} == {min(size, images)}
