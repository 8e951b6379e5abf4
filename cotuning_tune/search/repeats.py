"""Repeats of a search: K searches in all, which share everything but search seed and validation split.

Each repeat is a run of its own, ``RUN/repeats/NAME-repeat2`` and so on, with its own studies, test ledger, lock
and drivers. So each lasts and is resumed as any run, in an object store too, and every command can be given
one alone (``status``, ``report``, ``tensorboard``). They lie inside the run, not beside it, because they belong
to its report: whoever moves, copies or deletes the run takes them along. Their names carry the run's, for
a study's name in a shared database is made of it.
"""

import time
from dataclasses import replace

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_bytes, write_json
from cotuning_tune.base.toml_text import set_key
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.driver import create_run
from cotuning_tune.search.storage import set_storage


def set_searches(run: RunDir, experiment: Experiment, count: int | None = None, small: int = 0) -> None:
    """Fix how many searches the run shall have; None: as it has, or as its aim asks. Needs the run's lock.

    ``small``: trials that small searches share out as with ``aim = 'methods'``, beside the one of a run that looks for
    a model. A run without repeats may be given them once, also later, which its report says. Raises UserError for
    another number once a trial has begun: who adds repeats until the order suits him has chosen it.
    """
    begun, methods = run.studies_folder.exists(), experiment.config.aim == "methods"
    if methods and count is not None and count != experiment.searches:
        raise UserError(
            f"--repeat-search {count}: with aim = 'methods' the {experiment.config.trials} trials are shared out over"
            f" {experiment.searches} searches (experiment.searches)"
        )
    if methods and not run.first_search:
        count = experiment.searches
    small = 0 if methods else small
    if small:
        count = 1 + small_searches(experiment, small).searches
    known = small_trials(run)
    if count is None or (count == run.searches and small in (0, known)):
        return
    if begun and run.repeats_file.exists():
        raise UserError(
            f"{run.path} has {_told(run.searches, known)}, and what is asked (--repeat-search, --aim) needs"
            f" {_told(count, small)}: leave it out to continue them, or start a new run (--name)"
        )
    kept = {"searches": count, "time": time.time(), "after_tests": run.ledger.exists()}
    write_json(run.repeats_file, {**kept, "small": small} if small else kept)


def small_trials(run: RunDir) -> int:
    """How many trials the small searches beside a run share out; 0 where there are none."""
    return int(read_json(run.repeats_file).get("small", 0)) if run.repeats_file.exists() else 0


def _told(count: int, small: int) -> str:
    return f"{count} searches" + (f" (small ones beside its own, {small} trials in all)" if small else "")


def small_searches(experiment: Experiment, trials: int) -> Experiment:
    """The same experiment with ``aim = 'methods'``. Raises UserError where the trials are too few to share out."""
    text = set_key(experiment.text, ["experiment", "aim"], "methods")
    text = set_key(text, ["experiment", "trials"], trials)
    if experiment.config.hours:
        text = set_key(text, ["experiment", "hours"], 0)
    return replace(parse(text, experiment.name, experiment.base), name=experiment.name)


def repeat_of(experiment: Experiment, repeat: RunDir, number: int) -> Experiment:
    """The experiment of search ``number`` (from 2): search seed and validation split of its own, all else the same.

    Where small searches are compared, each is retrained with a seed of its own too.
    """
    config, more = experiment.config, number - 1
    text = set_key(experiment.text, ["experiment", "search_seed"], config.search_seed + more)
    text = set_key(text, ["task", "val_seed"], experiment.task["val_seed"] + more)
    if config.aim == "methods":
        text = set_key(text, ["experiment", "seeds"], [config.seeds[0] + more])
    again = parse(text, repeat.name, experiment.base)
    return replace(again, name=repeat.name, task=again.task | {"decode": experiment.task["decode"]})


def prepare_repeats(run: RunDir, experiment: Experiment) -> list[tuple[RunDir, Experiment]]:
    """The repeats, made or found, with the run's storage of studies and its present budget. Needs the run's lock.

    Raises UserError where a repeat holds another experiment.
    """
    environment, prepared = read_json(run.environment), []
    small = small_trials(run)
    experiment = small_searches(experiment, small) if small else experiment
    for number, repeat in enumerate(run.repeats(), 2):
        again = repeat_of(experiment, repeat, number)
        create_run(again, run.repeats_folder, environment["command"], environment.get("from"))
        if run.optuna_storage_file.exists():
            set_storage(repeat, run.optuna_storage_file.read_text().strip())
        if run.budget.exists() and not small:
            write_bytes(repeat.budget, run.budget.read_bytes())
        prepared.append((repeat, again))
    return prepared
