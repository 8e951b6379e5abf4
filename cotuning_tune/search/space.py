"""Search spaces as Optuna's static distributions, and the points that every study tries first."""

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from cotuning_tune.hyper import Choice, Space
from cotuning_tune.run.records import Epoch


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The searched parameters of a space; pinned ones are left out."""
    found: dict[str, BaseDistribution] = {}
    for key, parameter in space.items():
        search = parameter.search
        if search is None:
            continue
        if isinstance(search, Choice):
            found[key] = CategoricalDistribution(search.options)
        elif isinstance(search.low, int) and isinstance(search.high, int):
            found[key] = IntDistribution(search.low, search.high, log=search.log)
        else:
            found[key] = FloatDistribution(float(search.low), float(search.high), log=search.log)
    return found


def first_points(space: Space) -> list[Epoch]:
    """Trial 0: the published defaults. Trial 1: the same at the method's neutral point.

    A method without anything to switch off (fine-tuning) has the first point only.
    """
    searched = {key: p for key, p in space.items() if p.search is not None}
    defaults = {key: p.first for key, p in searched.items()}
    neutral = {key: p.neutral_point for key, p in searched.items()}
    return [defaults] if neutral == defaults else [defaults, neutral]
