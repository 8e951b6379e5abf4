"""The driver: prepares a run's folder, runs one Tune run over all studies, writes the selections."""

import platform
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from cotuning_tune import __version__
from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.base.files import is_local, read_json, write_bytes, write_json
from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.cluster.signals import kept_handlers
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.lock import holder
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.repair import repair
from cotuning_tune.search.selection import write_selections
from cotuning_tune.search.storage import mend_journal, open_storage
from cotuning_tune.search.study import Studies
from cotuning_tune.search.warm_start import warm_start
from cotuning_tune.training.job import source_of

SHOWN = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "failed": TrialState.FAIL,
}
PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy")


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands; ``best`` by study: validation accuracy in percent; ``seconds`` of ended trials.

    ``trials``: by study how many are in each state.
    """

    done: int
    failed: int
    running: int
    budget: int
    best: dict[str, float]
    started_with: int
    seconds: float
    trials: dict[str, dict[str, int]]


Watcher = Callable[[SearchProgress], None]


def create_run(
    experiment: Experiment, source: Path, storage: Path, command: list[str], warm_from: str | None = None
) -> RunDir:
    """The folder of a run, made (for its owner alone) or found. Raises UserError where another experiment lies in it.

    A run that was refused before its first trial is made anew. ``warm_from``: an older run whose finished
    trials the sampler shall know.
    """
    older = {"from": str(RunDir.open(warm_from).path)} if warm_from else {}
    run = RunDir(storage / experiment.name).current()
    if run.experiment_file.exists() and (run.studies_folder.exists() or holder(run)):
        if run.experiment_file.read_text() != experiment.text:
            raise UserError(
                f"{run.path} holds a run of a different experiment file: give this one another name"
                f" (--name), or go on with that one (cotuning-tune resume {run.path})"
            )
        _check_space(run, experiment)
        return run
    if is_local(run.path):
        run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(run.environment, _environment(source, command) | older | _calibration(experiment))
    write_bytes(run.space_file, experiment.space_text().encode())
    write_bytes(run.experiment_file, experiment.text.encode())
    return run


def _calibration(experiment: Experiment) -> dict[str, Any]:
    """The source head's temperature where it was fitted for this experiment."""
    if not experiment.config.source_val:
        return {}
    return {"source_temperature": source_of(experiment.spec(experiment.studies[0], {}, 0)).temperature}


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
    experiment = replace(parse(run.experiment_file.read_text(), run.name, base), name=run.name)  # --name wins
    _check_space(run, experiment)
    return experiment


def _check_space(run: RunDir, experiment: Experiment) -> None:
    if experiment.space_text() != run.space_file.read_text():
        raise UserError(
            f"{run.space_file} differs from the ranges of this version of cotuning_tune ({__version__}):"
            " go on with the version in env.json, or start a new run"
        )


def _progress(studies: Studies, before: int) -> SearchProgress:
    by_study = {name: study.counts() for name, study in studies.by_name.items()}
    counts = list(by_study.values())
    best = {name: float(t.value) for name, c in studies.by_name.items() if (t := c.best()) and t.value is not None}
    return SearchProgress(
        done=sum(c[TrialState.COMPLETE] + c[TrialState.PRUNED] for c in counts),
        failed=sum(c[TrialState.FAIL] for c in counts),
        running=sum(c[TrialState.RUNNING] for c in counts),
        budget=studies.budget.trials * len(counts),
        best=best,
        started_with=before,
        seconds=sum(study.seconds for study in studies.by_name.values()),
        trials={name: {shown: count[state] for shown, state in SHOWN.items()} for name, count in by_study.items()},
    )


@dataclass(frozen=True)
class Driver:
    """Who runs: its number (``incarnation``), what it may use, and how it speaks to its user."""

    incarnation: int
    concurrency: Concurrency
    watch: Watcher = lambda progress: None
    say: Callable[[str], None] = lambda line: None


def open_studies(run: RunDir, experiment: Experiment, say: Callable[[str], None]) -> Studies:
    """The run's studies, with what a kill may have left behind put right. Needs the run's lock."""
    if is_local(run.journal):
        for notice in mend_journal(run.journal):
            say(notice)
    studies = Studies(experiment, open_storage(run), run)
    if source := read_json(run.environment).get("from"):
        _warm_start(studies, Path(source), say)
    for notice in repair(run, studies):
        say(notice)
    return studies


def _warm_start(studies: Studies, source: Path, say: Callable[[str], None]) -> None:
    old = RunDir.open(source)
    storage = open_storage(old)
    found = [optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)]
    if added := warm_start(studies, found, old.name):
        say(f"{added} finished trials of {old.path} lie inside the new ranges: the sampler knows them")


def run_search(run: RunDir, experiment: Experiment, driver: Driver) -> bool:
    """Search until every study has its budget; True where all have. Needs the run's lock and a cluster."""
    studies = open_studies(run, experiment, driver.say)
    before = _progress(studies, 0).done
    driver.watch(_progress(studies, before))
    if not studies.finished:
        _tune(run, studies, driver, lambda: driver.watch(_progress(studies, before)))
    write_selections(run, experiment, studies)
    return studies.full


def _tune(run: RunDir, studies: Studies, driver: Driver, changed: Callable[[], None]) -> None:
    from ray import tune

    from cotuning_tune.search.searcher import StudyScheduler, StudySearcher
    from cotuning_tune.search.trainable import TrainingTrial

    concurrency, recorder = driver.concurrency, Recorder(run, studies)
    searcher = StudySearcher(studies, recorder, run, driver.incarnation, concurrency.cpus, changed, driver.say)
    stopping = studies.experiment.config.pruner != "none"
    resources = {"cpu": concurrency.cpus, "gpu": concurrency.gpus}
    tuner = tune.Tuner(
        tune.with_resources(TrainingTrial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyScheduler(searcher) if stopping else None,
            num_samples=sys.maxsize,
            max_concurrent_trials=concurrency.trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"driver-{driver.incarnation}",
            storage_path=str(run.ray if is_local(run.ray) else cache_root() / "ray" / run.name),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    with kept_handlers(), closing(recorder):
        tuner.fit()
    if not studies.finished:  # Tune caught SIGINT or SIGUSR1: a part of a search selects nothing
        raise Unfinished("the search was interrupted")
