"""A search whose worker and driver are killed ends like one that nobody disturbed."""

import os
import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from cotuning_tune.base.files import read_lines
from cotuning_tune.search.rows import LOSSES, RESULT
from tests.search.conftest import call
from tests.search.kills import actors, kill_all, start, summary, trials_of, wait_for, write_experiment


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker killed after the first epochs, the driver and all of its cluster killed later, resumed."""
    folder = tmp_path_factory.mktemp("disturbed")
    run = folder / "kills"
    driver = start("search", write_experiment(folder), "--storage", folder, "--num-cpus", 2)
    try:
        wait_for(lambda: list(run.glob("studies/*/trials/*/state.pt")), driver, "a first epoch")
        os.kill(actors(driver.pid)[0], signal.SIGKILL)
        wait_for(lambda: len(list(run.glob("studies/*/trials/*/result.json"))) >= 2, driver, "two results")
    finally:
        kill_all(driver)
    assert any(t.state == TrialState.RUNNING for ts in trials_of(run).values() for t in ts)
    resumed = call("resume", run, "--num-cpus", 2)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    return run


def test_budgets_are_exact(disturbed: Path) -> None:
    """Every study has exactly the asked number of trials, failed ones among them; none is left RUNNING."""
    for trials in trials_of(disturbed).values():
        states = [t.state for t in trials]
        assert len(states) == 5
        assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}


def test_results_equal_the_undisturbed(disturbed: Path, undisturbed: Path) -> None:
    """Numbers, states, parameters, every validation accuracy: equal to the last bit."""
    assert summary(disturbed) == summary(undisturbed)


def test_the_lost_worker_is_counted(disturbed: Path) -> None:
    """The trial of the killed worker was issued again, and its study says so."""
    attrs = [t.user_attrs for trials in trials_of(disturbed).values() for t in trials]
    assert sum(a.get(LOSSES, {}).get("count", 0) for a in attrs) >= 1


def test_failures_carry_their_reason(undisturbed: Path) -> None:
    """A trial that diverged is FAIL with the reason, in the study and in its folder."""
    failed = [(n, t) for n, ts in trials_of(undisturbed).items() for t in ts if t.state == TrialState.FAIL]
    assert failed
    for _, trial in failed:
        assert trial.params["optim/lr"] == 1e30
        assert "not finite" in trial.user_attrs[RESULT]["reason"]


def test_each_epoch_stands_once(disturbed: Path) -> None:
    """Metrics of a resumed trial have every epoch once, in order."""
    files = list(disturbed.glob("studies/*/trials/*/metrics.jsonl"))
    complete = [[row["epoch"] for row in read_lines(path)] for path in files]
    ended = [t.state for trials in trials_of(disturbed).values() for t in trials]
    assert complete.count([1, 2, 3, 4]) == ended.count(TrialState.COMPLETE)
    assert all(epochs == list(range(1, len(epochs) + 1)) for epochs in complete)


def test_a_finished_run_is_not_run_again(disturbed: Path) -> None:
    """``resume`` of a finished run trains nothing and shows the report."""
    before = summary(disturbed)
    stamps = {p: p.stat().st_mtime_ns for p in disturbed.glob("studies/*/retrain/*/result.json")}
    again = call("resume", disturbed, "--num-cpus", 2)
    assert again.returncode == 0, again.stderr
    assert summary(disturbed) == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert "| fine_tune " in again.stdout
