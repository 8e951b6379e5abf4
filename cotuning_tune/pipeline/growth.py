"""More trials, or more hours, for a run that exists."""

from dataclasses import dataclass

from cotuning_tune.base.errors import UserError
from cotuning_tune.runs import budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import holder
from cotuning_tune.runs.snapshot import check
from cotuning_tune.search.checks import snapshots
from cotuning_tune.search.driver import load_experiment
from cotuning_tune.search.repeats import small_trials
from cotuning_tune.training.job import forget_tasks


@dataclass(frozen=True)
class Growth:
    """What each study shall have now, ``trials`` or ``hours``; ``driven``: a driver is at work and takes them over.

    ``repeats``: whether those of the run's repeats have them too: small searches beside it keep theirs.
    """

    trials: int
    driven: bool
    repeats: bool = False
    hours: float = 0.0


def extend(run: RunDir, more: int = 0, *, hours: float | None = None, accept_data_change: bool = False) -> Growth:
    """Give every study of a run ``more`` trials, its repeats' too; small searches beside a run stay as they are.

    ``hours``: more of them for the search, in place of trials. Searches that share trials out take an equal part
    each. Raises UserError for less than one, for a number that cannot be shared out, for a repeat alone, where several
    searches are being worked on, where the run ends by the other number, and for other data than those the run began
    with.
    """
    experiment = load_experiment(run)
    if more % experiment.searches:
        raise UserError(
            f"--trials {more}: {experiment.searches} searches share them out: give a multiple of {experiment.searches}"
        )
    if first := run.first_search:
        raise UserError(f"{run.path} repeats the search of {first.path}, and all grow alike: extend {first.path}")
    if run.searches > 1 and (owner := holder(run)):
        raise UserError(
            f"{run.path} has {run.searches} searches, which grow together between two drivers: wait for the one of"
            f" {owner['user']} on {owner['host']} (process {owner['pid']}) or stop it, then extend"
        )
    driven = holder(run) is not None
    if not (driven or accept_data_change):  # else its driver has looked at them
        forget_tasks()
        for task, snapshot in snapshots(experiment).items():
            check(run, task, snapshot)
    if hours is not None:
        return Growth(0, driven, hours=budget.extend_hours(run, experiment.config.hours, hours))
    trials = budget.extend(run, experiment.trials, more // experiment.searches, experiment.config.hours)
    return Growth(trials, driven, run.searches > 1 and not small_trials(run))
