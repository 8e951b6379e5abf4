"""A search whose worker and driver are killed ends like one that nobody disturbed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from cotuning_tune.files import read_lines
from cotuning_tune.run_dir import RunDir
from cotuning_tune.search.storage import open_storage
from tests.search.conftest import call, command

# lr 1e30 gives NaN: those trials must FAIL with the reason, and successors must fill the budget.
EXPERIMENT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "l2_sp"]
backbone = "tiny_cnn"
trials = 5
sampler = "random"
seeds = [0]
[task]
size = 32
resize = 32
[data.synthetic]
images = 150
[train]
epochs = 4
batch_size = 8
batch_norm = ["train", "frozen"]
[train.optim]
lr = [1e-3, 1e-2, 1e30]
head_lr_factor = 10
"""


def write_experiment(folder: Path) -> Path:
    path = folder / "kills.toml"
    path.write_text(EXPERIMENT)
    return path


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until the condition holds while the process runs."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"the driver ended before {what}"
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.05)


def actors() -> list[int]:
    """Process numbers of trial actors on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith((b"ray::ResourceTrainable", b"ray::TrainingTrial")):
            found.append(int(folder.name))
    return found


def trials_of(run: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    storage = open_storage(RunDir(run))
    names = optuna.get_all_study_names(storage)
    return {n: optuna.load_study(study_name=n, storage=storage).trials for n in names}


def summary(run: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that must not depend on being disturbed."""
    return {
        name: [(t.number, t.state, t.value, t.params, t.intermediate_values) for t in trials]
        for name, trials in trials_of(run).items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = call("search", write_experiment(folder), "--storage", folder, "--num-cpus", 2)
    assert done.returncode == 0, done.stderr
    return folder / "kills"


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker killed after the first epochs, the driver and all of its cluster killed later, resumed."""
    folder = tmp_path_factory.mktemp("disturbed")
    run = folder / "kills"
    before = set(actors())
    driver = subprocess.Popen(
        command("search", write_experiment(folder), "--storage", folder, "--num-cpus", 2),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: list(run.glob("cells/*/trials/*/state.pt")), driver, "a first epoch")
        os.kill(next(pid for pid in actors() if pid not in before), signal.SIGKILL)
        wait_for(lambda: len(list(run.glob("cells/*/trials/*/result.json"))) >= 2, driver, "two results")
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert any(t.state == TrialState.RUNNING for ts in trials_of(run).values() for t in ts)
    resumed = call("resume", run, "--num-cpus", 2)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    return run


def test_budgets_are_exact(disturbed: Path) -> None:
    """Every cell has exactly the asked number of COMPLETE trials; none is left RUNNING."""
    for trials in trials_of(disturbed).values():
        states = [t.state for t in trials]
        assert states.count(TrialState.COMPLETE) == 5
        assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}


def test_results_equal_the_undisturbed(disturbed: Path, undisturbed: Path) -> None:
    """Numbers, states, parameters, every validation accuracy: equal to the last bit."""
    assert summary(disturbed) == summary(undisturbed)


def test_the_lost_worker_is_counted(disturbed: Path) -> None:
    """The trial of the killed worker was issued again, and its study says so."""
    attrs = [t.user_attrs for trials in trials_of(disturbed).values() for t in trials]
    assert sum(a.get("reissued", 0) for a in attrs) >= 1


def test_failures_carry_their_reason(undisturbed: Path) -> None:
    """A trial that diverged is FAIL with the reason, in the study and in its folder."""
    failed = [(n, t) for n, ts in trials_of(undisturbed).items() for t in ts if t.state == TrialState.FAIL]
    assert failed
    for _, trial in failed:
        assert trial.params["optim/lr"] == 1e30
        assert "not finite" in trial.user_attrs["reason"]


def test_each_epoch_stands_once(disturbed: Path) -> None:
    """Metrics of a resumed trial have every epoch once, in order."""
    files = list(disturbed.glob("cells/*/trials/*/metrics.jsonl"))
    complete = [[row["epoch"] for row in read_lines(path)] for path in files]
    assert complete.count([1, 2, 3, 4]) == 10


def test_a_finished_run_is_not_run_again(disturbed: Path) -> None:
    """``resume`` of a finished run trains nothing and shows the report."""
    before = summary(disturbed)
    stamps = {p: p.stat().st_mtime_ns for p in disturbed.glob("cells/*/retrain/*/result.json")}
    again = call("resume", disturbed, "--num-cpus", 2)
    assert again.returncode == 0, again.stderr
    assert summary(disturbed) == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert "| fine_tune " in again.stdout
