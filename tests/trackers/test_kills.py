"""Real tools beside a search whose driver is killed again and again: in the end they hold what the study holds."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.moments import at, reached
from tests.search.conftest import ROOT, call
from tests.search.kills import kill_all, start, wait_for, write_experiment
from tests.trackers import stores
from tests.trackers.stores import READERS
from tests.trackers.test_server import MLFLOW

HERE = "cotuning_tune.trackers"
REPORT, FINISH, SEED = (
    "cotuning_tune.search.recorder:Recorder.report",
    "cotuning_tune.search.recorder:Recorder.finish",
    "cotuning_tune.retrain:Seeds.ended",
)
# Each driver is killed as it is about to call the first function at that call. The second one is held at that call, so
# that the search goes on as far as the first needs, and no further.
DEATHS = [
    ((REPORT, 5), None),
    ((f"{HERE}.wandb:WandB.epoch", 2), (REPORT, 6)),
    ((FINISH, 2), None),
    ((f"{HERE}.mlflow:MLflow.epoch", 2), (REPORT, 6)),
    ((f"{HERE}.trackio:Trackio.epoch", 2), (REPORT, 6)),
    ((f"{HERE}.wandb:WandB.end", 1), (FINISH, 3)),
    ((f"{HERE}.mlflow:MLflow.end", 1), (FINISH, 3)),
    ((f"{HERE}._tracking:append_line", 1), (FINISH, 3)),
    ((SEED, 2), None),
    ((f"{HERE}._tracking:append_line", 1), None),
]
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


def _tools() -> list[str]:
    """The tools that are installed; ``test_each_tool_has_the_run_once`` says which are not."""
    return [name for name in READERS if find_spec(name)] or pytest.skip("no tracker's tool is installed")


SOME = [DEATHS[0], DEATHS[3], DEATHS[5], DEATHS[9]]


@pytest.mark.parametrize(
    ("every", "served"),
    [
        pytest.param(SOME, False, marks=pytest.mark.proof, id="4"),
        pytest.param(DEATHS, False, marks=pytest.mark.storm, id="10"),
        pytest.param(DEATHS, True, marks=pytest.mark.storm, id="10-mlflow-server"),
    ],
)
def test_deaths_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: list[object], served: bool, request: pytest.FixtureRequest
) -> None:
    """Each trial and seed stands once in each tool: same parameters, same numbers per epoch, same state and score."""
    tools = _tools()
    database = request.getfixturevalue("server") if served else None
    file, run = write_experiment(tmp_path, trials=10), tmp_path / "runs" / "kills"
    file.write_text(file.read_text().replace("seeds = [0, 1]", f"seeds = [0, 1]\ntrack = {tools}"))
    deaths = [(death, held) for death, held in every if not _absent(death[0], tools)]
    for number, ((function, calls), held) in enumerate(deaths):
        asked = ["resume", run] if number else ["run", file, "--storage", run.parent]
        here, more = (
            tmp_path / f"death{number}",
            at(tmp_path / f"held{number}", held[0], "wait", held[1]) if held else {},
        )
        environment = at(here, function, "wait", calls, more=more.get("MOMENTS", "[]"))
        driver = start(*asked, "--num-cpus", 2, log=tmp_path / "log", **NO_NETWORK, **environment)
        try:
            wait_for(lambda h=here, n=calls: reached(h) >= n, driver, f"{function} was called {calls} times")
        finally:
            kill_all(driver)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    done = call("resume", run, "--num-cpus", 2)
    while "has not taken everything" in done.stderr:  # a slow machine: the next one sends the rest
        done = call("resume", run, "--num-cpus", 2)
    assert done.returncode == 0, done.stderr
    assert "left out from now on" not in done.stderr + (tmp_path / "log").read_text()
    study = stores.of_run(run)
    assert len(study) == 2 * 10 + 2 * 2
    for tool in tools:
        kept = stores.of_mlflow(run, database) if database and tool == "mlflow" else READERS[tool](run)
        stores.assert_same(kept, study)
    if "mlflow" in tools and not database:
        _check_parents(stores.parents(run))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The database of a real server of MLflow beside the drivers."""
    if not (MLFLOW / "bin" / "mlflow").exists():
        pytest.skip("NOT TESTED WITH A SERVER OF MLFLOW: 'make proof-packages' installs it in .venv-mlflow")
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    with import_module("mlflow_server").server(str(MLFLOW)) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # the drivers' network ends at this machine
        yield tmp_path / "mlflow.db"


def _absent(function: str, tools: list[str]) -> bool:
    """Whether it belongs to a tool that is not there."""
    return function.partition(":")[0] in {f"{HERE}.{name}" for name in set(READERS) - set(tools)}


def _check_parents(runs: dict[str, tuple[str, str]]) -> None:
    """Trials are children of the run, seeds of a retraining, which is one too; all have ended."""
    assert runs.pop("kills") == ("", "FINISHED")
    for name, (parent, status) in runs.items():
        study, _, last = name.partition("/")
        assert parent == (f"{study}/retrain-{last.partition('-')[2]}" if last.startswith("seed") else "kills")
        assert status in ("FINISHED", "FAILED")
