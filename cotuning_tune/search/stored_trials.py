"""What a search reads and writes of trials that Optuna's public calls do not reach: those that others asked for.

The one place that touches Optuna's private names; ``tests/search/test_stored_trials.py`` tells which version moves one.
"""

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial


def set_attr(study: Study, trial: FrozenTrial, name: str, value: object) -> None:
    """Set a user attribute of a running trial, whichever process asked for it."""
    study._storage.set_trial_user_attr(trial._trial_id, name, value)


def set_param(study: Study, trial: FrozenTrial, name: str, value: object, distribution: BaseDistribution) -> None:
    """Give a running trial the value of a parameter that it lacks."""
    study._storage.set_trial_param(trial._trial_id, name, distribution.to_internal_repr(value), distribution)


def set_report(study: Study, trial: FrozenTrial, step: int, value: float) -> None:
    """Report a running trial's value at a step."""
    study._storage.set_trial_intermediate_value(trial._trial_id, step, value)


def queued_params(trial: FrozenTrial) -> dict[str, object]:
    """The values with which a trial was queued; none of one that was not."""
    return dict(trial.system_attrs.get("fixed_params", {}))
