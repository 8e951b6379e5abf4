"""A finished run on images and tagged sentences together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.search.conftest import run_once  # noqa: F401 - a fixture

MIXED = """
[experiment]
tasks = ["synthetic", "synthetic_ner"]
methods = ["fine_tune", "co_tuning"]
backbones = ["tiny_cnn", "tiny_bert"]
trials = 2
selection = "max"
seeds = [0, 1]

[task]
size = 16
resize = 16
max_length = 64

[train]
epochs = 2
batch_size = 8

[train.optim]
lr = { low = 1e-3, high = 1e-2, log = true }

[backbones.tiny_bert.train.optim]
name = "adamw"

[methods.co_tuning]
approach = "direct"
"""


@pytest.fixture(scope="session")
def mixed(run_once: Callable[..., Path]) -> tuple[Path, str]:  # noqa: F811 - the fixture above
    """The folder of the run, and what it printed."""

    def write(folder: Path) -> Path:
        path = folder / "mixed.toml"
        path.write_text(MIXED)
        return path

    folder = run_once("mixed", write)
    return folder / "mixed", (folder / "output").read_text()
