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


def extend(
    run: RunDir,
    more: int | None = None,
    *,
    to: int | None = None,
    hours: float | None = None,
    accept_data_change: bool = False,
) -> Growth:
    """Give every study of a run ``more`` trials, its repeats' too; small searches beside a run stay as they are.

    ``to``: that many in all in place of ``more``, so that a repeated request extends nothing twice; ``hours``: more of
    them for the search, in place of trials. One of the three is given. Searches that share trials out take an equal
    part each. Raises UserError for less than one or than there are, for a number that cannot be shared out, for a
    repeat alone, where several searches are being worked on, where the run ends by the other number, and for other
    data than those the run began with.
    """
    if sum(value is not None for value in (more, to, hours)) != 1:
        raise UserError("extend(trials=N): how many more trials, to_trials=N: how many in all, or hours=H: one of them")
    experiment = load_experiment(run)
    for option, number in (("--trials", more), ("--to-trials", to)):
        if (number or 0) % experiment.searches:
            count = experiment.searches
            raise UserError(f"{option} {number}: {count} searches share them out: give a multiple of {count}")
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
    asked, count = (experiment.trials, experiment.config.hours), experiment.searches
    if to is not None:
        trials = budget.extend_to(run, *asked, to // count)
    else:
        trials = budget.extend(run, asked[0], (more or 0) // count, asked[1])
    return Growth(trials, driven, run.searches > 1 and not small_trials(run))
