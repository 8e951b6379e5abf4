"""Whether the score still gets better where a range ends: then better values may lie beyond.

Not where the winners lie (chance puts one at some end in most reports), but the slope there of a quadratic fitted to
each study's trials, over all studies that share the parameter. All ends together are wrong in at most 5 %.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cotuning_tune.report.advice import PLACES, Advice, Space, is_ordered, share_of, widened
from cotuning_tune.report.results import StudyResult, metric_of_all

LEVEL = 0.05
END = 0.05  # what lies so near to an end (a share of the range) lies at it: there the slope is taken
LEAST_RISE = 2.0  # points over the whole range (nats of a hundredth): less is not worth another run
LEAST_FREEDOM = 4
TINY = 1e-8
FAR = 2.5  # standard deviations below what the better trials foretell: another regime, which no quadratic fits


@dataclass(frozen=True)
class Fit:
    """Least squares: ``solve_CT`` gives the coefficients; over the trials (rows) that ``used_T`` marks."""

    solve_CT: Any
    used_T: Any
    residuals_T: Any
    freedom: int


@dataclass(frozen=True)
class Slope:
    """A study's rise (of oriented scores, over the whole range) outwards at an end: ``rise = weights @ scores``.

    ``weights_N`` and ``residuals_N`` (over the root of the degrees of freedom) by trial number, zero where not used.
    """

    study: StudyResult
    rise: float
    weights_N: Any
    residuals_N: Any
    freedom: int


def _design(space: Mapping[str, Mapping[str, Any]], trials: list[dict[str, Any]]) -> tuple[Any, dict[str, int]]:
    """The regressors [trial, column]: 1, x and x^2 of each number, an indicator for each further option.

    x is the place in the range; also the first column of every number.
    """
    import numpy as np

    columns, places = [np.ones(len(trials))], dict[str, int]()
    for key, search in space.items():
        values = [trial["values"].get(key) for trial in trials]
        if None in values:
            continue
        if is_ordered(search) and len(set(values)) > 2:
            x_T = np.array([share_of(search, value) for value in values])
            places[key] = len(columns)
            columns += [x_T, x_T**2]
        else:
            columns += [np.array([value == one for value in values], float) for one in sorted(set(values), key=str)[1:]]
    return np.stack(columns, 1), places


def _fitted(design_TC: Any, score_T: Any, used_T: Any, least: int = LEAST_FREEDOM) -> Fit | None:
    """Least squares over the trials used; None where they leave too little to judge the fit by."""
    import numpy as np

    rows_TC, found_T = design_TC[used_T], score_T[used_T]
    solve_CT = np.linalg.pinv(rows_TC, rcond=TINY)
    freedom = len(rows_TC) - round(float(np.trace(rows_TC @ solve_CT)))  # the trace is the rank
    if freedom < least:
        return None
    return Fit(solve_CT, used_T, found_T - rows_TC @ (solve_CT @ found_T), freedom)


def _robust(design_TC: Any, score_T: Any, chance: float) -> Fit | None:
    """The fit without what lies far below: a cliff of diverged trials would bend it at both ends.

    Fitted first to the trials nearer to the best than to chance; the others come in where that fit foretells them.
    """
    import numpy as np

    better_T = score_T > (score_T.max() + chance) / 2
    first = _fitted(design_TC, score_T, better_T, least=1)  # an option that none of them has counts as the first
    if first is None:
        return None
    deviation = math.sqrt(first.residuals_T @ first.residuals_T / first.freedom)
    spread_T = np.sqrt(1 + ((design_TC @ first.solve_CT) ** 2).sum(1))
    foretold_T = design_TC @ (first.solve_CT @ score_T[better_T])
    return _fitted(design_TC, score_T, better_T | (score_T > foretold_T - FAR * deviation * spread_T))


def _slopes(space: Space, study: StudyResult, numbers: int) -> dict[tuple[str, bool], Slope]:
    """The study's slope at each end of each number that it searched; none of too few trials."""
    import numpy as np

    trials = [trial for trial in study.complete if not study.at_chance(trial)]
    if not trials:
        return {}
    oriented = study.metric.oriented
    score_T = np.array([oriented(trial["value"]) for trial in trials], float)
    design_TC, places = _design(space.of(study), trials)
    fit = _robust(design_TC, score_T, oriented(study.chance))
    if fit is None:
        return {}
    at = np.array([trial["number"] for trial in trials])[fit.used_T]
    residuals_N = np.zeros(numbers)
    residuals_N[at] = fit.residuals_T / math.sqrt(fit.freedom)
    found = {}
    for key, place in places.items():
        for upwards in (False, True):
            asked_C = np.zeros(design_TC.shape[1])
            asked_C[place : place + 2] = (1, 2 - 2 * END) if upwards else (-1, -2 * END)
            weights_T = asked_C @ fit.solve_CT
            if not np.allclose(weights_T @ design_TC[fit.used_T], asked_C, atol=1e3 * TINY):
                continue  # the trials used do not tell it from another column
            weights_N = np.zeros(numbers)
            weights_N[at] = weights_T
            rise = float(weights_T @ score_T[fit.used_T])
            found[key, upwards] = Slope(study, rise, weights_N, residuals_N, fit.freedom)
    return found


def _pooled(slopes: list[Slope]) -> tuple[float, float, int]:
    """Rise, its standard error and its degrees of freedom over several studies, weighted by their designs.

    The methods of a setting see one validation split, often at the same points: their errors go together, by trial.
    """
    import numpy as np

    shares = [1 / float(s.weights_N @ s.weights_N) for s in slopes]
    total = math.fsum(shares)
    variance, freedom = 0.0, 0
    for setting in dict.fromkeys(s.study.setting for s in slopes):
        mine = [(share / total, s) for share, s in zip(shares, slopes, strict=True) if s.study.setting == setting]
        weights_SN = np.stack([share * s.weights_N for share, s in mine])
        residuals_SN = np.stack([s.residuals_N for _, s in mine])
        common_SS = (weights_SN @ weights_SN.T) * (residuals_SN @ residuals_SN.T)
        variance += max(float(common_SS.sum()), float(np.trace(common_SS)))
        freedom += min(s.freedom for _, s in mine)
    rise = math.fsum(share * s.rise for share, s in zip(shares, slopes, strict=True)) / total
    return rise, math.sqrt(variance), freedom


def _can_widen(search: Mapping[str, Any], upwards: bool) -> bool:
    """A method's weight is not widened towards its neutral value, and nothing below zero."""
    return upwards or (search["of"] == "train" and 0 not in (search.get("low"), *search.get("options", ())))


def _where(studies: Iterable[StudyResult]) -> str:
    return ", ".join(dict.fromkeys(study.method for study in studies))


def edges(space: Space, studies: list[StudyResult]) -> list[Advice]:
    """The ends at which the score gets better outwards: one-sided t, Bonferroni over all ends that could be widened."""
    numbers = 1 + max((trial["number"] for study in studies for trial in study.trials), default=0)
    by_end = defaultdict[tuple[str, bool, str], list[Slope]](list)
    for study in studies:
        for (key, upwards), slope in _slopes(space, study, numbers).items():
            if _can_widen(space.of(study)[key], upwards):
                by_end[key, upwards, space.owner(key, study)].append(slope)
    if not by_end:
        return []
    from scipy.special import stdtrit

    advice = []
    for (key, upwards, backbone), slopes in by_end.items():
        rise, error, freedom = _pooled(slopes)
        metric = metric_of_all(s.study for s in slopes)
        least = LEAST_RISE if metric.percent else LEAST_RISE / 100
        if rise - least <= error * float(stdtrit(freedom, 1 - LEVEL / len(by_end))):
            continue
        moves = "rises" if metric.greater_is_better else "falls"
        finding = f"{key}: {metric.shown} still {moves} at its {'high' if upwards else 'low'} end"
        form = f".{metric.rough}f"
        rises = f"{rise / 10:{form}} ± {error / 10:{form}} {metric.points} per tenth of the range"
        evidence = f"{rises}, over {len(slopes)} studies"
        search = space.of(slopes[0].study)[key]
        change = "" if key in PLACES else space.change(key, widened(search, upwards), backbone)
        advice.append(Advice(finding, _where(s.study for s in slopes), evidence, change, key))
    return advice
