"""What a cluster cannot give is refused before anything starts."""

from pathlib import Path

import pytest

from tests.search.conftest import call

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
{line}
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gpu_per_trial = 64", "largest node has"),
        ("cpu_per_trial = 1000", "largest node has"),
    ],
)
def test_impossible_resources_are_one_line(tmp_path: Path, line: str, words: str) -> None:
    """A share of GPUs or cores that no node has: one line, exit code 2, no trial started."""
    path = tmp_path / "greedy.toml"
    path.write_text(TEXT.format(line=line))
    done = call("search", path, "--storage", tmp_path, "--num-cpus", 1)
    assert done.returncode == 2, done.stderr
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1
    assert words in errors[0]
    assert not list(tmp_path.glob("greedy/studies/*"))
