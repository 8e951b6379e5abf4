"""Runs through Ray, made once for all tests that look at them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    """The command line of ``cotuning-tune`` with these arguments, for a process of its own."""
    return [sys.executable, "-m", "cotuning_tune.cli", *map(str, arguments)]


def call(*arguments: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run ``cotuning-tune`` as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )


@pytest.fixture(scope="session")
def run_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``run_once(name, write)``: a folder with the finished run of the file that ``write(folder)`` gives.

    Processes that share the tests (pytest-xdist) share the run. What it printed is in the file ``output``.
    """
    mine = tmp_path_factory.getbasetemp()
    ours = mine.parent if hasattr(request.config, "workerinput") else mine

    def make(name: str, write: Callable[[Path], Path]) -> Path:
        folder = ours / name
        with FileLock(ours / f"{name}.lock"):
            if not (folder / "output").exists():
                folder.mkdir(exist_ok=True)
                done = call("run", write(folder), "--storage", folder, "--num-cpus", 2)
                assert done.returncode == 0, done.stderr
                (folder / "output").write_text(done.stdout)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_run(run_once: Callable[..., Path]) -> tuple[Path, str]:
    """The folder of a finished run of ``search_spaces/tiny.toml``, and what it printed."""
    folder = run_once("tiny_run", lambda _: ROOT / "search_spaces" / "tiny.toml")
    return folder / "tiny", (folder / "output").read_text()


@pytest.fixture(scope="session")
def undisturbed(run_once: Callable[..., Path]) -> Path:
    """The run that the tests which kill things compare with: nobody disturbed it. Retrained, reported."""
    from tests.search.kills import write_experiment

    return run_once("undisturbed", write_experiment) / "kills"
