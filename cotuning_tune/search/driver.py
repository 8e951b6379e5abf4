"""The driver: prepares a run's folder, runs one Tune run over all cells, writes the selections."""

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from cotuning_tune import __version__
from cotuning_tune.cluster import Slots
from cotuning_tune.errors import UserError
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.methods import method
from cotuning_tune.models import TransferModel, pretrained
from cotuning_tune.run_dir import RunDir, read_json, write_bytes, write_json
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.selection import write_selections
from cotuning_tune.search.study import Studies, open_storage
from cotuning_tune.training.job import task_of

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy")


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands; ``best`` by cell: validation accuracy in percent."""

    done: int
    failed: int
    running: int
    asked: int
    best: dict[str, float]
    started_with: int


Watcher = Callable[[SearchProgress], None]


def create_run(experiment: Experiment, source: Path, storage: Path, command: list[str]) -> RunDir:
    """The folder of a run, made or found. Raises UserError where another experiment lies in it."""
    run = RunDir((storage / experiment.name).resolve())
    if run.experiment_file.exists():
        if run.experiment_file.read_text() != experiment.text:
            raise UserError(
                f"{run.path} holds a run of a different experiment file: give this one another name"
                f" (--name), or go on with that one (cotuning-tune resume {run.path})"
            )
        return run
    write_json(run.environment, _environment(source, command))
    write_bytes(run.space_file, experiment.space_text().encode())
    write_bytes(run.experiment_file, experiment.text.encode())
    return run


def _environment(source: Path, command: list[str]) -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cotuning_tune": __version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "host": platform.node(),
        "processor": platform.machine(),
        "gpus": gpus,
        "command": command,
        "base": str(source.resolve().parent),
        "started": time.time(),
    }


def load_experiment(run: RunDir) -> Experiment:
    """The experiment of a run. Raises UserError where this version would search another space."""
    base = Path(read_json(run.environment)["base"])
    experiment = parse(run.experiment_file.read_text(), run.name, base)
    if experiment.space_text() != run.space_file.read_text():
        raise UserError(
            f"{run.space_file} differs from the ranges of this version of cotuning_tune ({__version__}):"
            " go on with the version in env.json, or start a new run"
        )
    return experiment


def check_cells(experiment: Experiment) -> None:
    """Open every task and build every method once, before anything runs. Raises UserError."""
    import torch

    source = pretrained(experiment.config.backbone, experiment.config.weights)
    for cell in experiment.cells:
        task = task_of(experiment.spec(cell, {}, 0))
        kind = method(cell.method)
        config = kind.Config(**experiment.spec(cell, {}, 0).method_config)
        kind(config, TransferModel(source, task.num_classes, torch.Generator()), task).check(source)


def _progress(studies: Studies, before: int) -> SearchProgress:
    counts = [cell.counts() for cell in studies.cells.values()]
    best = {name: float(t.value) for name, c in studies.cells.items() if (t := c.best()) and t.value is not None}
    return SearchProgress(
        done=sum(c[TrialState.COMPLETE] + c[TrialState.PRUNED] for c in counts),
        failed=sum(c[TrialState.FAIL] for c in counts),
        running=sum(c[TrialState.RUNNING] for c in counts),
        asked=studies.experiment.config.trials * len(counts),
        best=best,
        started_with=before,
    )


def run_search(run: RunDir, experiment: Experiment, slots: Slots, watch: Watcher = lambda progress: None) -> bool:
    """Search until every cell has its budget; True where all have. Needs the run's lock and a cluster."""
    studies = Studies(experiment, open_storage(run))
    before = _progress(studies, 0).done
    watch(_progress(studies, before))
    if not studies.finished:
        _tune(run, studies, slots, lambda: watch(_progress(studies, before)))
    write_selections(run, experiment, studies)
    return studies.finished


def _tune(run: RunDir, studies: Studies, slots: Slots, changed: Callable[[], None]) -> None:
    from ray import tune

    from cotuning_tune.search.searcher import StudySearcher
    from cotuning_tune.search.trainable import TrainingTrial

    incarnation = run.raise_incarnation()
    recorder = Recorder(run, studies.experiment)
    searcher = StudySearcher(studies, recorder, run, incarnation, slots.cpus, changed)
    resources = {"cpu": slots.cpus, "gpu": slots.gpus}
    tuner = tune.Tuner(
        tune.with_resources(TrainingTrial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=sys.maxsize,
            max_concurrent_trials=slots.count,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"driver-{incarnation}",
            storage_path=str(run.ray),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    tuner.fit()
