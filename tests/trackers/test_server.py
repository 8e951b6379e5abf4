"""A real server of MLflow, as ``examples/mlflow_server.py`` starts it, holds over HTTP what the study holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.search.conftest import ROOT
from tests.search.kills import write_experiment
from tests.trackers import stores

MLFLOW = ROOT / ".venv-mlflow"


@pytest.mark.proof
def test_a_server_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial and seed with the run's own numbers, failed ones too; the run's folder has no database of its own."""
    if not (MLFLOW / "bin" / "mlflow").exists():
        pytest.skip("NOT TESTED WITH A SERVER OF MLFLOW: 'make proof-packages' installs it in .venv-mlflow")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = [sys.executable, ROOT / "examples" / "mlflow_server.py", MLFLOW, write_experiment(tmp_path, trials=3)]
    taken = False
    while not taken:  # a slow machine: the next one sends the rest
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        taken = "has not taken everything" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "left out from now on" not in done.stderr
    run = tmp_path / "runs" / "kills"
    wanted = stores.of_run(run)
    assert {kept.state for kept in wanted.values()} == {"COMPLETE", "FAIL"}
    stores.assert_same(stores.of_mlflow(run, tmp_path / "mlflow.db"), wanted)
    assert not (run / "trackers" / "mlflow.db").exists()
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith(("kills ", "synthetic-"))}
    assert wanted.keys() < listed
