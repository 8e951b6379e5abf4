"""Sign-flip test, Holm's correction, Wilson's interval. Nothing is assumed to be normal.

Sources: Fisher 1935 (sign flips); Wilson 1927; Holm 1979. Draws are seeded: a report repeats itself.
Few pairs are counted in plain Python, since a report shall start at once; many need numpy.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

EXACT_PAIRS = 16
FLIPS = 100_000
NORMAL = NormalDist()


def _signed_sums(values: Sequence[float]) -> list[float]:
    """The sums of ``values`` under all 2^n choices of signs; the first is that of the values as they are."""
    sums = [0.0]
    for value in values:
        sums = [s + value for s in sums] + [s - value for s in sums]
    return sums


def _random_sums(values: Sequence[float], seed: int) -> Any:
    """Absolute sums under ``FLIPS`` random choices of signs, [FLIPS]; signs are looked up eight at a time."""
    import numpy as np

    rng, totals = np.random.default_rng(seed), np.zeros(FLIPS)
    for start in range(0, len(values), 8):
        table = np.array(_signed_sums(values[start : start + 8]))
        totals += table[rng.integers(0, len(table), FLIPS)]
    return np.abs(totals)


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the paired permutation test: how often random signs give as large a mean difference.

    Exact up to ``EXACT_PAIRS`` pairs, else over ``FLIPS`` random flips and the signs as they are. 1 of no pairs.
    """
    total = abs(math.fsum(differences))
    least = total - 1e-9 * max(1.0, math.fsum(map(abs, differences)))
    if len(differences) <= EXACT_PAIRS:
        sums = _signed_sums(differences)
        return sum(abs(s) >= least for s in sums) / len(sums)
    return (1 + int((_random_sums(differences, seed) >= least).sum())) / (1 + FLIPS)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p corrected for all of them (Holm 1979), in the order given."""
    corrected, running = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = running
    return corrected


def wilson_interval(successes: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a probability (Wilson 1927): holds for few trials too. 0 to 1 of none."""
    if not trials:
        return 0.0, 1.0
    z2, share = NORMAL.inv_cdf((1 + level) / 2) ** 2, successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)
