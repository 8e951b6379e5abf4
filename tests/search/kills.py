"""What the tests that kill things share: a search with something to lose, and what must not depend on kills."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import RDBStorage

from cotuning_tune.base.files import place
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.storage import read_storage
from tests.chaos.storm import actors_below as actors
from tests.chaos.storm import kill_session as kill_all
from tests.search.conftest import command

__all__ = ["actors", "kill_all", "start", "summary", "trials_of", "wait_for", "write_experiment"]

# lr 1e30 gives NaN: those trials must FAIL with the reason, and use up their draws.
EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune", "l2_sp"]
backbone = "tiny_cnn"
trials = {trials}
sampler = "random"
selection = "max"
seeds = [0, 1]
[task]
size = 32
resize = 32
[data.synthetic]
images = 150
[resources]
state_every = 0
[train]
epochs = 4
batch_size = 8
batch_norm = ["train", "frozen"]
[train.optim]
lr = [1e-3, 1e-2, 1e30]
head_lr_factor = 10
"""
Driver = subprocess.Popen[bytes]


def write_experiment(folder: Path, trials: int = 5) -> Path:
    """The file of the search; its run is called ``kills``."""
    path = folder / "kills.toml"
    path.write_text(EXPERIMENT.format(trials=trials))
    return path


def start(*arguments: object, log: Path | None = None, **environment: str) -> Driver:
    """A driver in a session of its own; what it says goes to ``log``."""
    with (log or Path(os.devnull)).open("ab") as output:
        return subprocess.Popen(
            command(*arguments),
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(condition: Callable[[], object], process: Driver | None, what: str, seconds: float = 600) -> None:
    """Wait until the condition holds while the process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"the driver ended before {what}"
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.05)


def trials_of(run: Path | str) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """The trials of every study of a run, by its name without the run's."""
    storage = read_storage(RunDir(place(run)))
    assert storage is not None
    names = optuna.get_all_study_names(storage)
    found = {n.split("/", 1)[1]: optuna.load_study(study_name=n, storage=storage).trials for n in names}
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()  # else its connections are left open until they are collected
    return found


def summary(run: Path | str) -> dict[str, list[tuple[object, ...]]]:
    """All that must not depend on being disturbed."""
    return {
        name: [(t.number, t.state, t.value, t.params, t.intermediate_values) for t in trials]
        for name, trials in trials_of(run).items()
    }
