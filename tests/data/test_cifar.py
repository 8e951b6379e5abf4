"""CIFAR's batches: what they may hold, and how their small images are enlarged."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import DataSet, data_set
from cotuning_tune.hyper import build
from tests.data.miniatures import TEST, cifar10, write_batch


def make(root: Path, size: int = 32) -> DataSet:
    """CIFAR-10 from a folder."""
    found = data_set("cifar10")
    return found(build(found.Config, {"root": str(root)}), size)


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """The test batch of a small copy."""
    cifar10(tmp_path)
    return tmp_path / "cifar-10-batches-py" / "test_batch"


@pytest.mark.parametrize("size", [8, 32, 40])
def test_enlarged_when_taken(batch: Path, size: int) -> None:
    """Images have the stored size however they are taken; each one's pixels do not depend on its neighbours."""
    images = make(batch.parents[1], size).test().examples
    assert len(images) == 3 * TEST
    together = images.take(range(len(images)))
    assert together.shape == (3 * TEST, 3, size, size)
    assert together.dtype == torch.uint8
    assert torch.equal(together[[4, 1]], images.take([4, 1]))
    assert torch.equal(together[7], images.take([7])[0])


def test_enlarged_from_the_batch(batch: Path) -> None:
    """The pixels are the batch's rows, channel after channel, resized with bilinear weights."""
    with batch.open("rb") as file:
        rows = pickle.load(file, encoding="latin1")["data"]
    expected = F.resize(torch.from_numpy(rows.reshape(-1, 3, 32, 32)), [40, 40], antialias=True)
    assert torch.equal(make(batch.parents[1], 40).test().examples.take(range(len(rows))), expected)


def test_nothing_large_is_kept(batch: Path) -> None:
    """A stored side of 2000 pixels costs no memory before an image is taken."""
    images = make(batch.parents[1], 2000).test().examples
    assert images.take([0]).shape == (1, 3, 2000, 2000)
    assert images.pixels_N3ss.nbytes == 3 * TEST * 3072  # type: ignore[attr-defined]


def test_fingerprints(tmp_path: Path) -> None:
    """Other images or another size have another fingerprint; the same have the same."""
    for seed in (0, 1):
        cifar10(tmp_path / str(seed), seed)
    prints = [
        make(tmp_path / seed, size).train().examples.fingerprint() for seed, size in (("0", 8), ("0", 9), ("1", 8))
    ]
    assert len(set(prints)) == 3
    assert make(tmp_path / "0", 8).train().examples.fingerprint() == prints[0]


class Evil:
    """A pickle that runs a command when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch harmed",)


def test_a_batch_runs_nothing(batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that asks for more than arrays is refused by name, and nothing of it runs."""
    monkeypatch.chdir(tmp_path)
    batch.write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(UserError, match=r"test_batch cannot be read \(it asks for .*system\)"):
        make(tmp_path).test()
    assert not (tmp_path / "harmed").exists()


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.9])
def test_a_batch_that_is_cut_off(batch: Path, name: str, kept: float) -> None:
    """A batch of which only the beginning is there is refused by name, wherever it ends."""
    path = batch.with_name(name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    found = make(batch.parents[1])
    with pytest.raises(UserError, match=f"{name} cannot be read") as caught:
        found.train(), found.test()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"data": ROWS}, "it has no 'labels'"),
        ({"labels": [0, 1]}, "it has no 'data'"),
        ({"data": ROWS, "labels": [0]}, "its data are no row of 3 x 32 x 32 bytes for each label"),
        ({"data": ROWS[:, :3000], "labels": [0, 1]}, "its data are no row of 3 x 32 x 32 bytes for each label"),
        ({"data": ROWS.astype(float), "labels": [0, 1]}, "its data are no row of 3 x 32 x 32 bytes for each label"),
        ({"data": "", "labels": [0, 1]}, "its data are no row of 3 x 32 x 32 bytes for each label"),
        ({"data": ROWS, "labels": 2}, "its data are no row of 3 x 32 x 32 bytes for each label"),
        ({"data": ROWS, "labels": [0, 3]}, "it has the class number 3 of 3 from 0"),
    ],
)
def test_a_wrong_batch(batch: Path, content: dict[str, Any], words: str) -> None:
    """A batch with the wrong contents is refused with its name and what is wrong, also the test batch."""
    write_batch(batch, content)
    with pytest.raises(UserError) as caught:
        make(batch.parents[1]).test()
    assert f"test_batch cannot be read ({words}" in str(caught.value)
