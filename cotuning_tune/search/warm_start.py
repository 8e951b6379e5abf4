"""Starting a new run from an old one: its finished trials inside the new ranges are passed on to the sampler.

They are marked, count for no budget and are never selected: they only tell TPE and GP where to look.
"""

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState, create_trial

from cotuning_tune.search.rows import CONFIRMS
from cotuning_tune.search.stored import MARK
from cotuning_tune.search.study import OptunaStudy, Studies


def warm_start(studies: Studies, old: Mapping[str, Sequence[FrozenTrial]], source: str) -> int:
    """Add the old run's trials of equal studies to the new studies; how many. Does so once for each trial."""
    added = 0
    for name, study in studies.by_name.items():
        if name not in old or study.drawn:
            continue
        known = {trial.user_attrs.get(MARK) for trial in study.trials()}
        for trial in old[name]:
            mark = f"{source}/{name}/{trial.number}"
            if (
                trial.state != TrialState.COMPLETE
                or mark in known
                or MARK in trial.user_attrs
                or CONFIRMS in trial.user_attrs
            ):
                continue
            if copy := _marked(trial, study, mark):
                study.adopt(copy)
                added += 1
    return added


def _marked(trial: FrozenTrial, study: OptunaStudy, mark: str) -> FrozenTrial | None:
    """A copy for the new study; None where a value is missing or lies outside of its range or options."""
    try:
        return create_trial(
            state=TrialState.COMPLETE,
            value=trial.value,
            params={name: value for name, value in trial.params.items() if name in study.distributions},
            distributions=study.distributions,
            user_attrs={MARK: mark},
        )
    except ValueError:
        return None
