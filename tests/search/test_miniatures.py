"""A small copy of every published data set, in its owners' layout, goes through verify, describe and a whole run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from tests.data.miniatures import MINIATURES
from tests.search.conftest import call

HEAD = """
[experiment]
tasks = {tasks}
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 2
selection = "max"
seeds = [0]
[task]
size = 16
resize = 16
[train]
epochs = 1
batch_size = 8
"""
Call = Callable[..., tuple[int, list[str], list[str]]]


def write_experiment(folder: Path) -> Path:
    """An experiment whose tasks are all the miniatures."""
    tables: dict[str, dict[str, Any]] = {}
    for kind, make in MINIATURES.items():
        (folder / kind).mkdir()
        tables[kind] = {key: str(v) if isinstance(v, Path) else v for key, v in make(folder / kind).items()}
    path = folder / "miniatures.toml"
    path.write_text(HEAD.format(tasks=json.dumps(list(MINIATURES))) + tomlkit.dumps({"data": tables}))
    return path


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("miniatures"))


@pytest.mark.parametrize("kind", MINIATURES)
def test_verified(experiment: Path, call: Call, tmp_path: Path, kind: str) -> None:
    """Every image opens; what is wrong is that there are fewer than published, and nothing else."""
    code, _, err = call(
        "data", "verify", "--experiment", experiment, "--task", kind, "--smallest", 1, "--json", tmp_path / "found.json"
    )
    assert code in (0, 1), err
    found = json.loads((tmp_path / "found.json").read_text())
    assert "missing" not in found or not found["missing"]
    assert "corrupt" not in found or not found["corrupt"]


@pytest.mark.parametrize("kind", MINIATURES)
def test_described(experiment: Path, call: Call, tmp_path: Path, kind: str) -> None:
    """Classes and counts are shown, and a contact sheet is written."""
    sheet = tmp_path / "sheet.png"
    code, out, err = call("data", "describe", "--experiment", experiment, "--task", kind, "--sheet", sheet)
    assert code == 0, err
    assert sheet.stat().st_size > 1000
    assert any("train" in line for line in out)


@pytest.mark.proof
def test_searched_retrained_and_tested(experiment: Path, tmp_path: Path) -> None:
    """One run over all of them: two trials each, the better one retrained and tested once."""
    done = call("run", experiment, "--storage", tmp_path, "--num-cpus", 2, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    studies = sorted((tmp_path / "miniatures" / "studies").iterdir())
    assert [study.name for study in studies] == sorted(f"{kind}-1.00-fine_tune" for kind in MINIATURES)
    for study in studies:
        assert [json.loads(p.read_text())["state"] for p in study.glob("trials/*/result.json")] == ["COMPLETE"] * 2
        assert json.loads((study / "retrain" / "seed0" / "result.json").read_text())["test_count"] > 0
