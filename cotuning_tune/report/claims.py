"""What results allow to say of methods: a two-way analysis (methods x units) whose residual all methods share.

Sources: Dunnett 1955 (many against one), Hsu 1981 (comparisons with the best), Holm 1979. A unit is what would be
another one if the study were made again: a data set, or a whole search. Seeds and rates are none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median, stdev
from typing import Any

from cotuning_tune.report.statistics import holm

LEVEL = 0.05
LEAST_UNITS = 2
WILD = 3.0  # times the median of the methods' residual variances: from there on they share none
LEAST_FOR_WILD = 4  # with fewer units chance alone makes most reports look wild


@cache
def _nodes(freedom: int) -> tuple[Any, Any, Any, Any]:
    """Values of the control, and of the residual's standard deviation over its true one, with their weights."""
    import numpy as np
    from scipy.special import gammaincinv

    control, weights = np.polynomial.hermite_e.hermegauss(48)
    share, widths = np.polynomial.legendre.leggauss(96)
    spread = np.sqrt(2 * gammaincinv(freedom / 2, (1 + share) / 2) / freedom)
    return control, weights / math.sqrt(2 * math.pi), spread[:, None], widths / 2


def dunnett_p(t: float, others: int, freedom: int, *, two_sided: bool = True) -> float:
    """How often the largest of ``others`` equal methods' t against one control reaches ``t`` by chance.

    Integrated over the control and over the residual's standard deviation; exact to about 1e-4.
    """
    from scipy.special import ndtr

    control, weights, spread, widths = _nodes(freedom)
    reach = math.sqrt(2) * t * spread
    inside = ndtr(control + reach) - (ndtr(control - reach) if two_sided else 0)
    held = widths @ inside**others @ weights
    return min(1.0, max(0.0, 1 - float(held)))


@cache
def dunnett_critical(others: int, freedom: int, *, two_sided: bool = True) -> float:
    """The t whose ``dunnett_p`` is 5 %."""
    low, high = 0.0, 2.0
    while dunnett_p(high, others, freedom, two_sided=two_sided) > LEVEL:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        above = dunnett_p(middle, others, freedom, two_sided=two_sided) > LEVEL
        low, high = (middle, high) if above else (low, middle)
    return high


@dataclass(frozen=True)
class Effect:
    """A method minus the baseline in points: of each unit, the simultaneous 95 % interval of the mean, adjusted p."""

    method: str
    differences: list[float]
    interval: tuple[float, float]
    p: float

    @property
    def difference(self) -> float:
        return fmean(self.differences)


@dataclass(frozen=True)
class Claim:
    """What the units show: effects against the baseline, who may be the best, the least difference to be shown.

    ``wild``: the method whose variance is too large to be pooled; '' where the methods share one.
    """

    means: dict[str, float]
    units: list[str]
    effects: list[Effect]
    bests: list[str]
    least: float
    wild: str = ""


def residual_squares(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """By method, the sum of squares that neither its mean nor the units' means explain."""
    columns = [fmean(column) for column in zip(*values.values(), strict=True)]
    grand = fmean(columns)
    return {
        method: math.fsum((v - fmean(row) - column + grand) ** 2 for v, column in zip(row, columns, strict=True))
        for method, row in values.items()
    }


def wild_method(squares: Mapping[str, float]) -> str:
    """The method whose residual variance exceeds three times the median of all; '' for none, or of two methods."""
    widest = max(squares, key=lambda method: squares[method])
    return widest if squares[widest] > WILD * median(squares.values()) else ""


def paired_t(differences: Sequence[float]) -> tuple[float, float]:
    """Standard error of the mean difference, and its two-sided p by Student's t; p is 1 where nothing varies."""
    from scipy.special import stdtr

    error = stdev(differences) / math.sqrt(len(differences))
    if error < 1e-9:
        return 0.0, 1.0
    return error, float(2 * stdtr(len(differences) - 1, -abs(fmean(differences)) / error))


def paired_effects(differences: Mapping[str, Sequence[float]]) -> list[Effect]:
    """Each series of differences by itself: paired t with Holm's correction, intervals with Bonferroni's."""
    from scipy.special import stdtrit

    tested = {name: paired_t(series) for name, series in differences.items()}
    effects = []
    for (name, (error, _)), p in zip(tested.items(), holm([p for _, p in tested.values()]), strict=True):
        series = list(differences[name])
        reach = error * float(stdtrit(len(series) - 1, 1 - LEVEL / 2 / len(tested)))
        effects.append(Effect(name, series, (fmean(series) - reach, fmean(series) + reach), p))
    return effects


def _minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def _may_be_best(method: str, values: Mapping[str, Sequence[float]]) -> bool:
    """Whether no other method is above this one by a one-sided paired t, corrected for all of them (Bonferroni)."""
    above = [_minus(row, values[method]) for name, row in values.items() if name != method]
    return all(fmean(row) <= 0 or paired_t(row)[1] / 2 * len(above) > LEVEL for row in above)


def analyse(table: Mapping[str, Mapping[str, float]], baseline: str) -> Claim | None:
    """The claim that a table (method: unit: percent) allows, over the units that all methods have.

    None for fewer than two methods or units, or where nothing varies. Without the baseline there are no effects.
    """
    units = [u for u in next(iter(table.values()), {}) if all(u in row for row in table.values())]
    values = {method: [row[unit] for unit in units] for method, row in table.items()}
    if len(values) < 2 or len(units) < LEAST_UNITS:
        return None
    squares, others = residual_squares(values), len(values) - 1
    freedom = others * (len(units) - 1)
    error = math.sqrt(2 * math.fsum(squares.values()) / freedom / len(units))
    if error < 1e-9:
        return None
    means = {method: fmean(row) for method, row in values.items()}
    rivals = [method for method in values if method != baseline] if baseline in values else []
    differences = {method: _minus(values[method], values[baseline]) for method in rivals}
    wild = wild_method(squares) if len(units) >= LEAST_FOR_WILD else ""
    if wild:
        effects = paired_effects(differences)
        bests = [method for method in values if _may_be_best(method, values)]
        first = max(means, key=lambda method: means[method])
        shown = effects or paired_effects({m: _minus(values[first], values[m]) for m in values if m != first})
        return Claim(means, units, effects, bests, median(e.interval[1] - e.difference for e in shown), wild)
    least = dunnett_critical(others, freedom) * error
    behind = dunnett_critical(others, freedom, two_sided=False) * error
    effects = []
    for method, series in differences.items():
        difference = fmean(series)
        p = dunnett_p(abs(difference) / error, others, freedom)
        effects.append(Effect(method, series, (difference - least, difference + least), p))
    return Claim(means, units, effects, [m for m in means if max(means.values()) - means[m] < behind], least)
