"""The claims against tables, scipy and statsmodels, and over many made-up studies of equal methods."""

import numpy as np
import pandas
import pytest
from scipy import stats
from statsmodels.formula.api import ols

from cotuning_tune.report.claims import (
    WILD,
    Claim,
    analyse,
    dunnett_critical,
    dunnett_p,
    own_level,
    paired_effects,
    residual_squares,
    wild_method,
)
from cotuning_tune.report.statistics import holm

REPORTS = 3000


@pytest.mark.parametrize(
    ("others", "freedom", "two_sided", "table"),
    [
        (1, 10, True, 2.23),
        (4, 10, True, 2.89),
        (4, 20, True, 2.65),
        (2, 5, True, 3.03),
        (1, 10, False, 1.81),
        (4, 10, False, 2.47),
        (9, 20, False, 2.60),
    ],
)
def test_dunnetts_table(others: int, freedom: int, two_sided: bool, table: float) -> None:
    """Critical values are those of Dunnett's tables (1955, 1964); they have two digits."""
    assert dunnett_critical(others, freedom, two_sided=two_sided) == pytest.approx(table, abs=0.006)


@pytest.mark.parametrize("freedom", [1, 3, 12, 200])
def test_one_rival_is_students_t(freedom: int) -> None:
    """Of one method against the baseline it is the ordinary t."""
    for t in (0.3, 1.5, 4.0):
        assert dunnett_p(t, 1, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), abs=1e-3)
        assert dunnett_p(t, 1, freedom, two_sided=False) == pytest.approx(stats.t.sf(t, freedom), abs=1e-3)


@pytest.mark.parametrize("two_sided", [True, False])
def test_p_as_scipy(two_sided: bool) -> None:
    """In the one-way layout that scipy knows, p is scipy's."""
    control, *rivals = np.random.default_rng(2).normal(size=(4, 6)) + np.array([[0.0], [0.5], [1.5], [1.0]])
    side = "two-sided" if two_sided else "greater"
    expected = stats.dunnett(*rivals, control=control, alternative=side, rng=np.random.default_rng(0))
    for t, p in zip(expected.statistic, expected.pvalue, strict=True):
        assert dunnett_p(float(t), 3, 20, two_sided=two_sided) == pytest.approx(p, abs=1e-3)


def table_of(values: np.ndarray) -> dict[str, dict[str, float]]:
    """Rows are methods m0, m1, ...; columns are units."""
    return {f"m{i}": {f"u{j}": float(v) for j, v in enumerate(row)} for i, row in enumerate(values)}


def claim_of(values: np.ndarray, baseline: str = "m0") -> Claim:
    claim = analyse(table_of(values), baseline)
    assert claim is not None
    return claim


def test_effects_as_statsmodels() -> None:
    """Differences and standard error are those of the linear model method + unit, where the pair alone is surer."""
    values = np.random.default_rng(3).normal(60, 1, (4, 5)) + 10 * np.arange(5)
    claim = claim_of(values)
    rows = [(v, m, u) for m, row in table_of(values).items() for u, v in row.items()]
    fit = ols("v ~ C(m) + C(u)", pandas.DataFrame(rows, columns=["v", "m", "u"])).fit()
    assert (claim.wild, fit.df_resid) == ("", 12)
    wider = []
    for effect in claim.effects:
        name = f"C(m)[T.{effect.method}]"
        assert effect.difference == pytest.approx(fit.params[name])
        alone = stats.ttest_1samp(effect.differences, 0)
        pooled, low = dunnett_critical(3, 12) * fit.bse[name], alone.confidence_interval(1 - own_level(5)).low
        reach = max(pooled, effect.difference - low)
        assert effect.interval == pytest.approx((fit.params[name] - reach, fit.params[name] + reach))
        p = max(
            float(dunnett_p(abs(effect.difference) / fit.bse[name], 3, 12)), 0.05 / own_level(5) * float(alone.pvalue)
        )
        assert effect.p == pytest.approx(min(1, p))
        assert (effect.p <= 0.05) == (abs(effect.difference) > reach)
        wider.append(reach > pooled)
    assert sorted(wider) == [False, True, True]


def test_one_rival_is_paired() -> None:
    """Two methods have the ordinary paired t at 5 %."""
    values = np.random.default_rng(13).normal(60, 1, (2, 5)) + np.array([[0.0], [1.0]])
    (effect,) = claim_of(values).effects
    alone = stats.ttest_rel(values[1], values[0])
    assert effect.p == pytest.approx(float(alone.pvalue), abs=1e-3)
    assert effect.interval == pytest.approx(tuple(alone.confidence_interval(0.95)), rel=1e-3)


def test_the_set_is_hsus() -> None:
    """A method is out where the best lies further above than the one-sided critical value allows."""
    values = np.random.default_rng(4).normal(0, 0.5, (5, 4)) + np.array([[0.0], [0.2], [3.0], [2.8], [1.5]])
    claim = claim_of(values)
    behind = dunnett_critical(4, 12, two_sided=False) * claim.least / dunnett_critical(4, 12)
    means = values.mean(1)
    assert claim.bests == [f"m{i}" for i in range(5) if means.max() - means[i] < behind]
    assert 1 <= len(claim.bests) < 5


def wild_table() -> np.ndarray:
    values = np.random.default_rng(5).normal(0, 0.3, (5, 6)) + np.array([[0.0], [1.0], [0.1], [0.0], [0.2]])
    values[3] += [6, -6, 5, -5, 4, -4]
    return values


def test_a_wild_method_is_compared_alone() -> None:
    """It has a paired t with Bonferroni's correction; of its residual the others bear what the F test allows."""
    values = wild_table()
    claim, rest = claim_of(values), np.delete(values, 3, 0)
    assert claim.wild == "m3"
    p = float(stats.ttest_rel(values[3], values[0]).pvalue)
    assert claim.effects[2].p == pytest.approx(min(1, 4 * p))
    low, high = stats.ttest_rel(values[3], values[0]).confidence_interval(1 - 0.05 / 4)
    assert claim.effects[2].interval == pytest.approx((low, high))
    squares = sum(residual_squares({str(i): list(row) for i, row in enumerate(rest)}).values())
    pooled = squares * (1 + stats.f.isf(WILD / 5, 5, 15) / 3) / 20
    assert claim.least == pytest.approx(dunnett_critical(4, 20) * (2 * pooled / 6) ** 0.5)
    shared = dunnett_p(claim.effects[0].difference / (pooled / 3) ** 0.5, 4, 20)
    alone = 0.05 / own_level(6) * float(stats.ttest_rel(values[1], values[0]).pvalue)
    assert claim.effects[0].p == pytest.approx(max(shared, alone))
    assert claim.bests == ["m1", "m3"]


def test_pairs_by_themselves() -> None:
    """Series of differences have a paired t each, corrected by Holm, with Bonferroni's intervals."""
    values = wild_table()
    tests = [stats.ttest_rel(row, values[0]) for row in values[1:]]
    effects = paired_effects({str(i): list(row - values[0]) for i, row in enumerate(values[1:])})
    assert [effect.p for effect in effects] == pytest.approx(holm([float(t.pvalue) for t in tests]))
    assert effects[2].interval == pytest.approx(tuple(tests[2].confidence_interval(1 - 0.05 / 4)))


def test_a_wild_baseline_is_compared_alone() -> None:
    """Every comparison with it is a paired t."""
    values = wild_table()
    claim = claim_of(values, "m3")
    ps = [4 * float(stats.ttest_rel(row, values[3]).pvalue) for i, row in enumerate(values) if i != 3]
    assert [effect.p for effect in claim.effects] == pytest.approx([min(1.0, p) for p in ps])


def test_the_wild_test_is_exact() -> None:
    """Of equal methods one is wild in nearly 10 % of reports; never of two methods or over two units."""
    rng = np.random.default_rng(12)
    for methods, units in ((3, 3), (5, 4), (8, 12)):
        tables = ({str(i): list(row) for i, row in enumerate(t)} for t in rng.normal(size=(REPORTS, methods, units)))
        share = np.mean([wild_method(residual_squares(table), units)[0] != "" for table in tables])
        assert 0.085 < share < 0.115, (methods, units)
    for methods, units in ((2, 6), (5, 2)):
        assert {claim_of(values).wild for values in rng.normal(size=(300, methods, units))} == {""}
    assert claim_of(np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [9, -3, 4, 1]])).wild == ""


def test_what_shows_nothing() -> None:
    """One unit, one method, and results that do not vary give no claim; no baseline gives no effects."""
    values = np.random.default_rng(6).normal(size=(3, 4))
    assert analyse(table_of(values[:, :1]), "m0") is None
    assert analyse(table_of(values[:1]), "m0") is None
    assert analyse(table_of(np.ones((3, 4))), "m0") is None
    assert analyse({}, "m0") is None
    assert claim_of(values, "none").effects == []


def test_units_that_all_methods_have() -> None:
    """A unit that one method lacks is left out of all."""
    table = table_of(np.random.default_rng(7).normal(size=(3, 4)))
    del table["m2"]["u1"]
    claim = analyse(table, "m0")
    assert claim is not None
    assert claim.units == ["u0", "u2", "u3"]


def false_and_held(units: int, deviations: tuple[float, ...]) -> tuple[float, float]:
    """Share of reports with a false verdict, and of reports whose set holds the last method, of equal methods."""
    rng, false, held = np.random.default_rng(8), 0, 0
    spread = np.array(deviations)[:, None]
    for _ in range(REPORTS):
        claim = claim_of(rng.normal(60, 10, (1, units)) + spread * rng.normal(size=(len(deviations), units)))
        false += any(effect.p <= 0.05 for effect in claim.effects)
        held += "m4" in claim.bests
    return false / REPORTS, held / REPORTS


@pytest.mark.parametrize("units", [2, 3, 4, 8])
def test_equal_methods_are_called_equal(units: int) -> None:
    """At most 5 % of reports err, and the set holds a given method in 95 %; over many units not far from that."""
    false, held = false_and_held(units, (1, 1, 1, 1, 1))
    error = (0.05 * 0.95 / REPORTS) ** 0.5
    assert false <= 0.05
    assert false >= {2: 0.005, 3: 0.01, 4: 0.02, 8: 0.03}[units]
    assert held >= 0.95 - 3 * error


@pytest.mark.parametrize("units", [2, 3, 4, 8])
@pytest.mark.parametrize(("noisy", "factor"), [(0, 2), (0, 3), (0, 5), (1, 5)])
def test_a_noisy_method_does_not_deceive(units: int, noisy: int, factor: int) -> None:
    """Over so few units that nothing tells it from the others: at most 6 % of reports err (three standard errors)."""
    false, held = false_and_held(units, tuple(factor if i == noisy else 1 for i in range(5)))
    assert false <= 0.06 + 3 * (0.06 * 0.94 / REPORTS) ** 0.5
    assert held >= 0.94
