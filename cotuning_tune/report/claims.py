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
WILD = 0.1  # level of the test for a wild method: what chance does to 10 % of reports costs them little
LEAST_FOR_WILD = 3  # methods, and units: with fewer of either no variance stands out


def own_level(units: int) -> float:
    """Level of a pair's own t test: over few units the test for a wild method sees nothing, so each pair must pass too.

    Set so that one method 2 to 5 times as noisy makes at most 6 % of reports false (docs/calibration.md).
    """
    return 0.03 if units == LEAST_UNITS else 0.04


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

    ``wild``: the method whose variance is above that of the others; '' where the methods share one.
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


def wild_method(squares: Mapping[str, float], units: int) -> tuple[str, float]:
    """The method whose residual variance is above that of the others by an F test ('' for none), and the sum to pool.

    Exact for equal variances, Bonferroni over the methods. Of a wild one no more is pooled than that test lets pass.
    """
    from scipy.special import fdtri

    methods, total = len(squares), math.fsum(squares.values())
    widest = max(squares, key=lambda method: squares[method])
    own = squares[widest] * methods / (methods - 1)  # the rest is the residual of an analysis without that method
    rest = total - own
    if min(methods, units) < LEAST_FOR_WILD or rest < 1e-12 * total:
        return "", total
    most = float(fdtri(units - 1, (methods - 2) * (units - 1), 1 - WILD / methods)) * rest / (methods - 2)
    return (widest, rest + most) if own > most else ("", total)


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


@dataclass(frozen=True)
class _Analysis:
    """The values of the judged methods over their units, and what the two-way analysis makes of them.

    ``error``: standard error of a difference of two means, pooled over the methods. A difference must pass Dunnett's
    test with it and its own paired t test, which a noisy method cannot deceive. A pair with the ``wild`` method has its
    own paired t alone, with Bonferroni's correction for all rivals.
    """

    values: dict[str, list[float]]
    error: float
    wild: str

    @property
    def others(self) -> int:
        return len(self.values) - 1

    @property
    def units(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def freedom(self) -> int:
        return self.others * (self.units - 1)

    def _share(self, pair: tuple[str, str]) -> float:
        """The level of a pair's own t test."""
        return LEVEL / self.others if self.wild in pair or self.others == 1 else own_level(self.units)

    def reach(self, pair: tuple[str, str], *, two_sided: bool = True) -> float:
        """How far chance may move the difference of two methods' means: 95 % for all rivals of one of them together."""
        from scipy.special import stdtrit

        series = _minus(*(self.values[method] for method in pair))
        tail = self._share(pair) / (2 if two_sided else 1)
        own = paired_t(series)[0] * float(stdtrit(len(series) - 1, 1 - tail))
        if self.wild in pair:
            return own
        return max(own, dunnett_critical(self.others, self.freedom, two_sided=two_sided) * self.error)

    def effect(self, method: str, baseline: str) -> Effect:
        """A method against the baseline; its p is below 5 % where its interval is without zero."""
        series, pair = _minus(self.values[method], self.values[baseline]), (method, baseline)
        difference, reach = fmean(series), self.reach(pair)
        own, p = paired_t(series)
        p = min(1.0, LEVEL / self._share(pair) * p)
        if self.wild not in pair:
            pooled = dunnett_p(abs(difference) / self.error, self.others, self.freedom)
            p = max(p, pooled) if own else pooled
        return Effect(method, series, (difference - reach, difference + reach), p)

    def may_be_best(self, method: str) -> bool:
        """Whether no other method lies further above this one than chance may move the two (Hsu)."""
        mine = fmean(self.values[method])
        above = {other: fmean(row) - mine for other, row in self.values.items() if fmean(row) > mine}
        return all(by < self.reach((other, method), two_sided=False) for other, by in above.items())


def analyse(table: Mapping[str, Mapping[str, float]], baseline: str) -> Claim | None:
    """The claim that a table (method: unit: percent) allows, over the units that all methods have.

    None for fewer than two methods or units, or where nothing varies. Without the baseline there are no effects.
    """
    units = [u for u in next(iter(table.values()), {}) if all(u in row for row in table.values())]
    values = {method: [row[unit] for unit in units] for method, row in table.items()}
    if len(values) < 2 or len(units) < LEAST_UNITS:
        return None
    wild, squares = wild_method(residual_squares(values), len(units))
    found = _Analysis(values, math.sqrt(2 * squares / (len(values) - 1) / (len(units) - 1) / len(units)), wild)
    if found.error < 1e-9:
        return None
    means = {method: fmean(row) for method, row in values.items()}
    centre = baseline if baseline in values else max(means, key=lambda method: means[method])
    rivals = [method for method in values if method != centre]
    effects = [found.effect(method, baseline) for method in rivals] if centre == baseline else []
    least = median(found.reach((method, centre)) for method in rivals)
    return Claim(means, units, effects, [m for m in values if found.may_be_best(m)], least, wild)
