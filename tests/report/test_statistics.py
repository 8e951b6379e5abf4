"""The statistics against numbers written out by hand and against scipy and statsmodels."""

import itertools
import random

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cotuning_tune.report.statistics import EXACT_PAIRS, holm, sign_flip_p

SIX = [1.0, 2.0, -1.0, 3.0, 2.0, 4.0]


def drawn(count: int, shift: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(shift, 1.0) for _ in range(count)]


def test_six_pairs_written_out() -> None:
    """1, 2, -1, 3, 2, 4 sum to 11; of the 64 sums under all signs 3 reach 11 (13, 11, 11) and 3 reach -11: p = 6/64."""
    sums = [sum(s * d for s, d in zip(signs, SIX, strict=True)) for signs in itertools.product((1, -1), repeat=6)]
    assert len(sums) == 64
    assert sorted(s for s in sums if abs(s) >= 11) == [-13.0, -11.0, -11.0, 11.0, 11.0, 13.0]
    assert sign_flip_p(SIX) == 6 / 64


@pytest.mark.parametrize("count", [3, 7, 12])
def test_exact_as_scipy(count: int) -> None:
    """Up to 16 pairs the p is scipy's exact one."""
    values = drawn(count, 0.5, count)
    expected = stats.permutation_test(
        (np.array(values),),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert sign_flip_p(values) == pytest.approx(expected.pvalue, abs=1e-12)


def test_many_pairs_are_sampled() -> None:
    """Above 16 pairs the sampled p is near the exact one, and the same at each call."""
    values = drawn(EXACT_PAIRS + 1, 0.6)
    totals = np.zeros(1)
    for value in values:
        totals = np.concatenate([totals + value, totals - value])
    exact = float((np.abs(totals) >= abs(sum(values)) - 1e-9).mean())
    assert 0.01 < exact < 0.5
    assert sign_flip_p(values) == pytest.approx(exact, abs=5 * (exact / 100_000) ** 0.5)
    assert sign_flip_p(values) == sign_flip_p(values)


def test_sampled_p_is_never_zero() -> None:
    """The signs as they are count as one of the random ones: p is at least 1 / 100,001."""
    assert sign_flip_p([1.0] * 40) == 1 / 100_001


def test_the_direction_does_not_matter() -> None:
    """Two-sided: turning every difference round gives the same p."""
    assert sign_flip_p([-d for d in SIX]) == sign_flip_p(SIX)


def test_no_difference_at_all() -> None:
    """Equal methods have p = 1."""
    assert sign_flip_p([0.0] * 6) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_holm_as_statsmodels(seed: int) -> None:
    """Corrected p's are statsmodels', in the order given, ties included."""
    rng = random.Random(seed)
    ps = [rng.random() ** 3 for _ in range(8)] + [0.01, 0.01, 1.0]
    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]), abs=1e-15)
    assert holm([]) == []
