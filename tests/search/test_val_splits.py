"""A search whose trials train on two validation splits, killed while one trains on its second."""

import signal
from pathlib import Path
from statistics import fmean

import pytest

from cotuning_tune.base.files import read_json, read_lines
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob, TrainingSpec
from tests.search.conftest import call
from tests.search.kills import kill_all, start, trials_of, wait_for

EXPERIMENT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 2
selection = "max"
val_splits = 2
seeds = [0]
validate = "each"
[resources]
state_every = 0
[task]
size = 32
resize = 32
[data.synthetic]
images = 150
[train]
epochs = 4
batch_size = 8
"""


pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver and all of its workers killed when a trial has trained an epoch on its second split; resumed."""
    folder = tmp_path_factory.mktemp("splits")
    path, run = folder / "splits.toml", folder / "splits"
    path.write_text(EXPERIMENT)
    driver = start("search", path, "--storage", folder, "--num-cpus", 1)
    try:
        wait_for(lambda: list(run.glob("studies/*/trials/*/split1/state.pt")), driver, "an epoch of the second split")
    finally:
        kill_all(driver)
    assert driver.returncode == -signal.SIGKILL
    resumed = call("resume", run, "--num-cpus", 1)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    return run


def test_a_trial_is_worth_the_mean_of_its_splits(run: Path) -> None:
    """Value and epochs of each are those of two trainings that nobody killed, to the last bit."""
    ((study, trials),) = trials_of(run).items()
    assert len(trials) == 2
    for trial in trials:
        folder = TrialDir(run / "studies" / study / "trials" / f"{trial.number:04d}")
        specs = [TrainingSpec.from_json(spec) for spec in read_json(folder.config)["specs"]]
        assert [spec.task_config["val_seed"] for spec in specs] == [0, 1000]
        kept, every = [], []
        for spec in specs:
            job = TrainingJob(spec)
            while not job.finished:
                every.append(job.advance()["val_score"])
            kept.append(job.history[-1])
        accuracy, loss = (fmean(row[name] for row in kept) for name in ("val_score", "val_loss"))
        assert kept[0]["val_loss"] != kept[1]["val_loss"]
        assert (trial.value, read_json(folder.result)["loss"]) == (accuracy, loss)
        assert trial.intermediate_values == dict(enumerate(every, 1))
        assert [row["val_score"] for row in read_lines(folder.metrics)] == every
        assert not folder.split(1).state.exists()
