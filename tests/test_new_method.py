"""A method is one file: dropped into ``methods/``, it is listed, searchable and tested with nothing else touched."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The ten lines of CONTRIBUTING.md, with its docstring.
METHOD = '''"""Feature norm: keeps features small.

>>> feature_norm(torch.ones(1, 4))
tensor(4.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cotuning_tune.hyper import Range, hyper
from cotuning_tune.methods._base import Batch, Method
from cotuning_tune.models import Outputs, TransferModel


def feature_norm(features_BD: Tensor) -> Tensor:
    """Mean squared norm of the features."""
    return features_BD.square().sum(1).mean()


class FeatureNorm(Method):
    """Adds ``weight * feature_norm``."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(1e-4, Range(1e-6, 1e-2, log=True), neutral=0.0)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        return {"feature_norm": self.config.weight * feature_norm(outputs.features)}
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one file more."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("cotuning_tune", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "cotuning_tune" / "methods" / "feature_norm.py").write_text(METHOD)
    text = (ROOT / "search_spaces" / "tiny.toml").read_text()
    (folder / "new.toml").write_text(text.replace('"bss"', '"bss", "feature_norm"'))
    return folder


def run_in(folder: Path, *arguments: str, path: Sequence[Path] = ()) -> str:
    """What a Python process in the folder prints, which imports from there or from ``path``; it must end well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path or [folder])), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_new_method_is_listed_with_its_ranges(copy: Path) -> None:
    """``list methods`` and ``space`` show it, with its docstring and range."""
    assert "feature_norm            Feature norm" in run_in(copy, "-m", "cotuning_tune.cli", "list", "methods")
    assert "methods.feature_norm.weight" in run_in(copy, "-m", "cotuning_tune.cli", "space", "feature_norm")


def test_new_method_trains_in_an_experiment(copy: Path) -> None:
    """An experiment that names it has a study of it, with its weight as a hyper-parameter."""
    script = (
        "from cotuning_tune.experiment import read_experiment\n"
        "e = read_experiment('new.toml')\n"
        "assert 'synthetic-1.00-feature_norm' in [c.name for c in e.studies]\n"
        "assert e.space('feature_norm')['feature_norm/weight'].first == 1e-4\n"
    )
    run_in(copy, "-c", script)
    shown = run_in(copy, "-m", "cotuning_tune.cli", "train", "new.toml", "--method", "feature_norm")
    assert "validation accuracy " in shown.splitlines()[-1]


def test_new_method_passes_conformance(copy: Path) -> None:
    """The conformance suite finds it by itself and runs all its tests on it."""
    shown = run_in(copy, "-m", "pytest", "-q", "tests/methods/test_conformance.py", "-k", "feature_norm")
    passed = int(shown.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= 12
    assert "skipped" not in shown
