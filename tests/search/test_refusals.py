"""What a cluster or a storage cannot give is refused before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.cluster.connection import find_concurrency
from cotuning_tune.experiment import Resources

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 1
[task]
size = 16
resize = 16
[resources]
cpu_per_trial = 6400
"""
Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def greedy(tmp_path: Path) -> Path:
    """An experiment whose trials take 6400 cores each."""
    path = tmp_path / "greedy.toml"
    path.write_text(TEXT)
    return path


def test_impossible_resources_are_one_line(greedy: Path, call: Call) -> None:
    """More cores than a node has: one line, exit code 2, no trial started."""
    code, _, errors = call("search", greedy, "--storage", greedy.parent, "--num-cpus", 1)
    assert (code, len(errors)) == (2, 1)
    assert "largest node has" in errors[0]
    assert not list(greedy.parent.glob("greedy/studies/*"))


@pytest.mark.parametrize(
    ("wanted", "words"), [({"gpu_per_trial": 3}, "the largest node has 2 GPU"), ({"cpu_per_trial": 9}, "has 8 cores")]
)
def test_the_largest_node_counts(wanted: dict[str, int], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial runs on one node that lives: what only all of them have together is refused."""
    resources = ({"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 64.0})
    nodes = [{"Alive": number < 3, "Resources": found} for number, found in enumerate(resources)]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    with pytest.raises(UserError, match=words):
        find_concurrency(Resources(**wanted))


def test_a_journal_needs_a_folder(greedy: Path, call: Call) -> None:
    """Without a database for the studies s3 is refused in one line, before anything is made."""
    code, _, errors = call("search", greedy, "--storage", "s3://runs/none")
    assert (code, len(errors)) == (2, 1)
    assert "name a database for the studies" in errors[0]
