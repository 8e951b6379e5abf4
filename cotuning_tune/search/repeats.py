"""Repeats of a search: K searches in all, which share everything but the search seed.

Each repeat is a run of its own, ``RUN/repeats/NAME-repeat2`` and so on, with its own studies, test ledger, lock
and drivers. So each lasts and is resumed as any run, in an object store too, and every command can be given
one alone (``status``, ``report``, ``tensorboard``). They lie inside the run, not beside it, because they belong
to its report: whoever moves, copies or deletes the run takes them along. Their names carry the run's, for
a study's name in a shared database is made of it.
"""

import time
import tomllib
from dataclasses import replace

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_bytes, write_json
from cotuning_tune.base.toml_text import set_key
from cotuning_tune.experiment import Experiment
from cotuning_tune.run.folder import RunDir
from cotuning_tune.search.driver import create_run
from cotuning_tune.search.storage import set_storage


def set_searches(run: RunDir, count: int | None) -> None:
    """Fix how many searches the run shall have; None: as it has. Needs the run's lock.

    A run without repeats may be given them once, also later, which its report says. Raises UserError for another
    number once a trial has begun: who adds repeats until the order suits him has chosen it.
    """
    begun = run.studies_folder.exists()
    if count is None or count == run.searches:
        return
    if begun and run.repeats_file.exists():
        raise UserError(
            f"{run.path} has {run.searches} searches, and --repeat-search {count} asks for another number: leave it"
            " out to continue them, or start a new run (--name)"
        )
    write_json(run.repeats_file, {"searches": count, "time": time.time(), "after_tests": run.ledger.exists()})


def repeat_of(experiment: Experiment, repeat: RunDir, number: int) -> Experiment:
    """The experiment of search ``number`` (from 2): another search seed, all else the same."""
    seed = experiment.config.search_seed + number - 1
    text = set_key(experiment.text, ["experiment", "search_seed"], seed)
    named = tomllib.loads(text)["experiment"].get("name", repeat.name)
    config = replace(experiment.config, search_seed=seed, name=named)
    return replace(experiment, name=repeat.name, text=text, config=config)


def prepare_repeats(run: RunDir, experiment: Experiment) -> list[tuple[RunDir, Experiment]]:
    """The repeats, made or found, with the run's storage of studies and its present budget. Needs the run's lock.

    Raises UserError where a repeat holds another experiment.
    """
    environment, prepared = read_json(run.environment), []
    for number, repeat in enumerate(run.repeats(), 2):
        again = repeat_of(experiment, repeat, number)
        create_run(again, run.repeats_folder, environment["command"], environment.get("from"))
        if run.optuna_storage_file.exists():
            set_storage(repeat, run.optuna_storage_file.read_text().strip())
        if run.budget.exists():
            write_bytes(repeat.budget, run.budget.read_bytes())
        prepared.append((repeat, again))
    return prepared
