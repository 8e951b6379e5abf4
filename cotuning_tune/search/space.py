"""Search spaces as Optuna's static distributions, and the points that every study tries first."""

from dataclasses import dataclass, field

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from cotuning_tune.hyper import Choice, Parameter, Range, Space
from cotuning_tune.runs.records import Values


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


@dataclass(frozen=True)
class FixedPoint:
    """A point that every study tries before any is drawn: 'published', the method 'off', or at its 'weakest'.

    ``off``: values that lie outside of the ranges, where 0 cannot lie in a logarithm's; ``values`` holds the nearest.
    """

    name: str
    values: Values
    off: Values = field(default_factory=dict)


def _out_of_reach(parameter: Parameter) -> bool:
    search = parameter.search
    return isinstance(search, Range) and search.log and parameter.neutral == 0


def first_points(space: Space) -> list[FixedPoint]:
    """Trial 0: the published defaults. Trial 1: the same with the method switched off, or at its weakest.

    A method without anything to switch off (fine-tuning) has the first point only.
    """
    searched = {key: p for key, p in space.items() if p.search is not None}
    defaults = {key: p.first for key, p in searched.items()}
    neutral = {key: p.neutral_point for key, p in searched.items()}
    off = {key: p.neutral for key, p in searched.items() if _out_of_reach(p)}
    if neutral == defaults and not off:
        return [FixedPoint("published", defaults)]
    with_neutral = {key: p for key, p in space.items() if p.neutral is not None}
    reached = all((neutral | off).get(key, p.value) == p.neutral for key, p in with_neutral.items())
    return [FixedPoint("published", defaults), FixedPoint("off" if reached else "weakest", neutral, off)]
