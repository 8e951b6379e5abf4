"""Runs through Ray, made once for all tests that look at them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    """The command line of ``cotuning-tune`` with these arguments, for a process of its own."""
    return [sys.executable, "-m", "cotuning_tune.cli", *map(str, arguments)]


def call(*arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run ``cotuning-tune`` as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run of ``search_spaces/tiny.toml``, and what it printed."""
    storage = tmp_path_factory.mktemp("tiny")
    done = call("run", ROOT / "search_spaces" / "tiny.toml", "--storage", storage, "--num-cpus", 2)
    assert done.returncode == 0, done.stderr
    return storage / "tiny", done.stdout


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the tests which kill things compare with: nobody disturbed it. Retrained, reported."""
    from tests.search.kills import write_experiment

    folder = tmp_path_factory.mktemp("undisturbed")
    done = call("run", write_experiment(folder), "--storage", folder, "--num-cpus", 2)
    assert done.returncode == 0, done.stderr
    return folder / "kills"
