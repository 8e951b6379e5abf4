"""The driver: prepares a run's folder, runs one Tune run over all studies, writes the selections."""

import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import cast

from cotuning_tune import __version__
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, read_json, write_bytes, write_json
from cotuning_tune.base.secrets import masked
from cotuning_tune.base.toml_text import tables_of
from cotuning_tune.base.versions import installed
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.data import data_set
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.methods import method
from cotuning_tune.runs.events import ENDED_AS, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import make_identity, studies_prefix
from cotuning_tune.runs.lock import holder
from cotuning_tune.runs.records import Values
from cotuning_tune.runs.summary import with_seeds
from cotuning_tune.scores import ACCURACY
from cotuning_tune.search.board import SearchBoard
from cotuning_tune.search.checks import sources
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.repair import repair
from cotuning_tune.search.selection import write_selections
from cotuning_tune.search.storage import mend_journal, open_storage, read_storage
from cotuning_tune.search.stored import find_trials
from cotuning_tune.search.study import OptunaStudy, Studies
from cotuning_tune.search.warm_start import warm_start

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy")


def create_run(experiment: Experiment, storage: Path, command: Sequence[str], warm_from: str | None = None) -> RunDir:
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
                f" (--name), or continue that one (cotuning-tune resume {run.path})"
            )
        _check_space(run, experiment)
        _check_metrics(run, experiment)
        return run
    if is_local(run.path):
        try:
            run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise UserError(f"the folder {run.path} cannot be made: {problem.strerror} (--storage)") from None
    make_identity(run, experiment.name)
    write_json(run.environment, _environment(experiment, command) | older | _source(experiment) | _overlaps(experiment))
    write_bytes(run.space_file, experiment.space_text().encode())
    write_bytes(run.experiment_file, experiment.text.encode())
    return run


def _source(experiment: Experiment) -> Values:
    """Whether the weights that every training begins with are random, and the methods that use the source head.

    Of several backbones those with random weights by name, where not all have them. Also the (first) source head's
    temperature where it was fitted for this experiment.
    """
    found = sources(experiment)
    random = [source.name for source in found if source.is_random]
    using = [name for name, kind in experiment.kinds.items() if method(kind).uses_source_head]
    fitted = {"source_temperature": found[0].temperature} if experiment.config.source_val else {}
    some = {"random_of": random} if 0 < len(random) < len(found) else {}
    return {"source": {"random": len(random) == len(found), "head_used_by": using, **some}, **fitted}


def _overlaps(experiment: Experiment) -> Values:
    """By task what its examples have in common with those that weights are pre-trained on, where that is documented."""
    found = {task: data_set(experiment.formats[task]).overlaps for task in experiment.config.tasks}
    said: Values = {"overlaps": {task: overlap for task, overlap in found.items() if overlap}}
    return said if any(found.values()) else {}


def _environment(experiment: Experiment, command: Sequence[str]) -> Values:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cotuning_tune": __version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES} | _of_texts(experiment),
        "host": platform.node(),
        "processor": platform.machine(),
        "gpus": gpus,
        "command": [masked(word) for word in command],
        "base": str(experiment.base.resolve()),
        "metrics": experiment.metrics,
        "started": time.time(),
    }


def _of_texts(experiment: Experiment) -> dict[str, str]:
    """The packages that read texts, where there are any."""
    reads = any(experiment.modality(task) == "text" for task in experiment.config.tasks)
    return installed(("transformers", "tokenizers")) if reads else {}


def load_experiment(run: RunDir) -> Experiment:
    """The experiment of a run. Raises UserError where this version would search another space."""
    base = Path(read_json(run.environment)["base"])
    experiment = parse(run.experiment_file.read_text(), run.name, base)
    experiment = replace(experiment, name=run.name, metrics=_metrics_of(run, experiment))  # --name wins
    _check_space(run, experiment)
    return experiment


def _metrics_of(run: RunDir, experiment: Experiment) -> dict[str, str]:
    """By task the metric that the run began with; earlier versions knew accuracy alone."""
    known = read_json(run.environment).get("metrics", {})
    return {task: known.get(task, ACCURACY.name) for task in experiment.config.tasks}


def _check_metrics(run: RunDir, experiment: Experiment) -> None:
    for task, metric in _metrics_of(run, experiment).items():
        if metric != experiment.metrics[task]:
            problem = f"{run.path} began with {metric} for {task}, and this version takes {experiment.metrics[task]}"
            raise UserError(f"{problem}: continue it as it began (cotuning-tune resume {run.path}), or give a --name")


def _check_space(run: RunDir, experiment: Experiment) -> None:
    if tables_of(experiment.space_text()) != tables_of(run.space_file.read_text()):
        raise UserError(
            f"{run.space_file} differs from the ranges of this version of cotuning_tune ({__version__}):"
            " continue with the version in env.json, or start a new run"
        )


def _ended(study: OptunaStudy) -> dict[str, int]:
    counts = Counter(t.state.name for t in study.trained())
    return {ENDED_AS[state]: n for state, n in counts.items() if state in ENDED_AS}


def _standing(run: RunDir, studies: Studies) -> Standing:
    """Where the search stands before this driver hands out a trial, after the studies themselves."""
    every = studies.by_name.items()
    found = Standing(
        budget=studies.total,
        until=studies.budget.until,
        trials={name: _ended(study) for name, study in every},
        best={name: cast(float, best["score"]) for name, study in every if (best := study.best())},
        metrics={name: study.metric.name for name, study in every},
        search_seconds=sum(study.seconds for _, study in every),
    )
    return with_seeds(found, run, studies.by_name, studies.experiment.seeds)


def open_studies(run: RunDir, experiment: Experiment, say: Callable[[str], None]) -> Studies:
    """The run's studies, with what a kill may have left behind put right. Needs the run's lock."""
    if is_local(run.journal):
        for notice in mend_journal(run.journal):
            say(notice)
    studies = Studies(experiment, open_storage(run), run, say=say)
    studies.claim()
    if source := read_json(run.environment).get("from"):
        _warm_start(studies, Path(source), say)
    for notice in repair(run, studies):
        say(notice)
    return studies


def _warm_start(studies: Studies, source: Path, say: Callable[[str], None]) -> None:
    old = RunDir.open(source)
    storage = read_storage(old)
    prefix = studies_prefix(old) or old.name
    found = {name: find_trials(storage, f"{prefix}/{name}") for name in studies.by_name} if storage else {}
    if added := warm_start(studies, found, old.name):
        say(f"{added} finished trials of {old.path} lie inside the new ranges: the sampler knows them")


def run_search(run: RunDir, experiment: Experiment, studies: Studies, driver: Driver) -> bool:
    """Search until every study has its budget; True where all have. Needs the run's lock and a cluster."""
    stream = driver.stream
    standing, clock = _standing(run, studies), studies.budget.clock
    timed = clock.kept(lambda: run.read_incarnation() == driver.number) if studies.budget.hours else nullcontext()
    with SearchBoard(run, studies) as board, stream.also(board), timed:
        driver.begin(run, standing)
        if not studies.finished:
            _tune(run, studies, driver)
    for selected in write_selections(run, experiment, studies):
        stream.tell(selected)
    return studies.full


def _tune(run: RunDir, studies: Studies, driver: Driver) -> None:
    from cotuning_tune.cluster.execute import execute
    from cotuning_tune.search.searcher import StudyScheduler, StudySearcher

    searcher = StudySearcher(studies, Recorder(run), run, driver)
    stopping = studies.experiment.config.pruner != "none"
    execute(run, searcher, driver, lambda: studies.finished, StudyScheduler(searcher) if stopping else None)
