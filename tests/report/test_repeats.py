"""K searches made up: table, spreads and shares worked out by hand, and every way in which they are no repeats."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.report import build_report
from cotuning_tune.report.comparison import UNDECIDED
from cotuning_tune.report.repeats import (
    Search,
    Spread,
    _variance_remark,
    comparable,
    decompose,
    independent,
    moments,
    read_searches,
    searches_table,
    seed_means,
    spread_table,
)
from cotuning_tune.report.results import StudyResult, read_studies
from cotuning_tune.report.statistics import wilson_interval
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from tests.report.synthetic import write_run, write_searches

# By method: searches x seeds, at one setting.
FINE_TUNE = [[60.0, 62.0], [64.0, 66.0], [62.0, 64.0]]
BSS = [[70.0, 71.0], [60.0, 61.0], [65.0, 66.0]]


def study(method: str, accuracies: list[float], rate: float = 1.0) -> StudyResult:
    seeds = [{"seed": n, "state": "COMPLETE", "test_score": a} for n, a in enumerate(accuracies)]
    trials: list[dict[str, Any]] = [{"state": "COMPLETE", "epochs": 2, "seconds": 1.0}]
    return StudyResult("birds", rate, method, 1, trials, {"val_score": 1.0}, seeds)


def searches(**methods: list[list[float]]) -> list[Search]:
    """Made-up searches from the accuracies of each method, searches x seeds."""
    count = len(next(iter(methods.values())))
    return [
        Search(n + 1, RunDir(Path("none")), [study(m, values[n]) for m, values in methods.items()])
        for n in range(count)
    ]


def test_variances_by_hand() -> None:
    """Means 61, 65, 63 have variance 4; each pair of seeds has 2, half of which is in a mean: 3 and 2."""
    spread = decompose([FINE_TUNE])
    assert spread == Spread(3.0, 2.0)
    assert spread.share == pytest.approx(0.6)


def test_variances_of_unequal_seeds_by_hand() -> None:
    """Seeds 1, 3 | 5, 7, 9: within (2 + 8) / 3, between 2 * 3^2 + 3 * 2^2 = 30 less 10/3, by n0 = 5 - (4 + 9) / 5."""
    spread = decompose([[[1.0, 3.0], [5.0, 7.0, 9.0], []]])
    assert spread is not None
    assert spread.seed == pytest.approx(10 / 3)
    assert spread.search == pytest.approx((30 - 10 / 3) / 2.4)


def test_studies_are_pooled_by_hand() -> None:
    """Squares and freedoms add up over studies, each about its own mean; a negative part is not cut before that."""
    assert decompose([FINE_TUNE, BSS]) == Spread((3.0 + 24.75) / 2, (2.0 + 0.5) / 2)
    assert moments([[[0.0, 10.0], [0.0, 10.0]]]) == Spread(-25.0, 50.0)
    assert moments([[[0.0, 10.0], [0.0, 10.0]], [[100.0, 110.0], [120.0, 130.0]]]) == Spread((-25.0 + 175.0) / 2, 50.0)


def test_variances_as_statsmodels() -> None:
    """With equally many seeds the estimates are those of a mixed model fitted by restricted maximum likelihood."""
    rng = np.random.default_rng(5)
    values_KN = 2.0 * rng.normal(size=(12, 1)) + rng.normal(size=(12, 4))
    labels = np.repeat(np.arange(12), 4)
    fitted = MixedLM(values_KN.ravel(), np.ones(48), labels).fit(reml=True)
    spread = decompose([values_KN.tolist()])
    assert spread is not None
    assert spread.search == pytest.approx(float(fitted.cov_re[0][0]), rel=1e-3)
    assert spread.seed == pytest.approx(fitted.scale, rel=1e-3)


DESIGNS = {  # methods and studies x searches: how many seeds
    "balanced": [[3, 3, 3, 3]],
    "unbalanced": [[1, 2, 3, 8]],
    "a seed lost": [[3, 3, 2]],
    "several": [[1, 5], [3, 3, 3], [2, 1, 4, 4], [6]],
}


def drawn(design: list[list[int]], search: float, seed: float, rng: np.random.Generator) -> list[list[list[float]]]:
    """Results of a design with these variances, each stratum with a mean of its own."""
    return [
        [(50 + 9 * n + search**0.5 * rng.normal() + seed**0.5 * rng.normal(size=k)).tolist() for k in stratum]
        for n, stratum in enumerate(design)
    ]


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
@pytest.mark.parametrize(("search", "seed"), [(0.0, 1.0), (0.5, 0.25), (4.0, 1.0)])
def test_known_variances_are_found(design: list[list[int]], search: float, seed: float) -> None:
    """Over 3000 made-up runs the means of the estimates lie within four standard errors of the truth."""
    rng = np.random.default_rng(0)
    found = [moments(drawn(design, search, seed, rng)) for _ in range(3000)]
    for part, truth in (("search", search), ("seed", seed)):
        values = np.array([getattr(spread, part) for spread in found])
        assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_expected_variances_are_exact(design: list[list[int]]) -> None:
    """The estimates are quadratic: their expectation is the sum over unit draws of each search and of each seed."""

    def total(unit: list[list[list[list[float]]]]) -> list[float]:
        spreads = [found for one in unit if (found := moments(one))]
        return [sum(getattr(spread, part) for spread in spreads) for part in ("search", "seed")]

    places = [(n, g) for n, stratum in enumerate(design) for g in range(len(stratum))]
    zeros = [[[0.0] * k for k in stratum] for stratum in design]

    def with_ones(n: int, g: int, seeds: Sequence[int]) -> list[list[list[float]]]:
        made = copy.deepcopy(zeros)
        for k in seeds:
            made[n][g][k] = 1.0
        return made

    of_searches = [with_ones(n, g, range(design[n][g])) for n, g in places]
    of_seeds = [with_ones(n, g, [k]) for n, g in places for k in range(design[n][g])]
    assert total(of_searches) == pytest.approx([1.0, 0.0], abs=1e-12)
    assert total(of_seeds) == pytest.approx([0.0, 1.0], abs=1e-12)


def test_seeds_alone_explain_it() -> None:
    """Searches that agree better than their seeds would let them: no part is due to the search."""
    assert decompose([[[0.0, 10.0], [0.0, 10.0]]]) == Spread(0.0, 50.0)
    assert Spread(0.0, 0.0).share is None


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_what_cannot_be_split(values: list[list[float]]) -> None:
    """One search, or one seed each: search and seed cannot be inferred apart."""
    assert decompose([values]) is None


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(1, 1, 0.2065, 1.0), (0, 1, 0.0, 0.7935), (3, 4, 0.3006, 0.9544), (0, 0, 0.0, 1.0)],
)
def test_wilson_by_hand(successes: int, trials: int, low: float, high: float) -> None:
    """With z^2 = 3.8415 all of n give n / (n + z^2) as lower end; the others follow from the formula."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_solves_its_equation() -> None:
    """At each end the observed share lies 1.96 standard errors of that end's probability away."""
    for end in wilson_interval(7, 10):
        assert abs(0.7 - end) == pytest.approx(1.959964 * (end * (1 - end) / 10) ** 0.5, abs=1e-6)


def test_the_table_by_hand() -> None:
    """Means of each search, their deviation, and the seeds' deviation."""
    table = searches_table(searches(fine_tune=FINE_TUNE, bss=BSS))
    assert table.title == "The results of 3 searches"
    assert table.header == ["method", "search 1", "search 2", "search 3", "± searches", "± seeds"]
    assert table.rows == [
        ["fine_tune", "61.00", "65.00", "63.00", "2.00", "1.41"],
        ["bss", "70.50", "60.50", "65.50", "5.00", "0.71"],
    ]
    variances = spread_table(searches(fine_tune=FINE_TUNE, bss=BSS))
    assert variances is not None
    assert variances.rows == [["fine_tune", "3.000", "2.000", "60 %"], ["bss", "24.750", "0.500", "98 %"]]


def test_the_remark_pools_before_it_cuts() -> None:
    """3 of 5 and -25 of 25 are 0 % together, not the 3 of 55 that remain where each method's part is cut alone."""
    noisy = [[0.0, 10.0]] * 3
    (remark,) = _variance_remark(searches(fine_tune=FINE_TUNE, bss=noisy))
    assert "Over all methods about 0 % of the variance of a result is due to the search" in remark
    (remark,) = _variance_remark(searches(fine_tune=FINE_TUNE, bss=BSS))
    assert "about 92 % of" in remark  # 13.875 of 15.125


def test_several_studies_are_averaged_seed_by_seed() -> None:
    """A seed counts where every study has it: its mean over the studies."""
    studies = [study("bss", [50.0, 60.0, 70.0], 0.15), study("bss", [70.0, 90.0])]
    assert seed_means(studies, "bss") == [60.0, 75.0]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Three methods on two studies, three searches of tpe, three seeds; search k has the noise of seed k."""
    shape: dict[str, Any] = {"tasks": ("birds",), "methods": 3, "trials": 4, "epochs": 2, "pruned": 0.0}
    return write_searches(tmp_path / "run", repeats=2, **shape, sampler="tpe", seed=1)


def mean_of(run: RunDir, method: str) -> float:
    """A method's test accuracy over all studies and seeds, read from the files."""
    found = [read_json(path)["test_score"] for path in run.path.glob(f"studies/*-{method}/retrain/*/result.json")]
    assert len(found) == 6
    return float(sum(found) / 6)


def warnings(run: RunDir) -> list[str]:
    return [r for r in build_report(run).remarks if r.startswith(("WARNING", "UNEQUAL")) and "search" in r]


def test_a_whole_report(run: RunDir) -> None:
    """Every search's means as its files have them; the main table is the first one's; test_evaluations are added up."""
    report = build_report(run)
    tables = {table.name: table for table in report.tables}
    for row in tables["repeats"].rows:
        assert row[1:4] == [f"{mean_of(one, row[0]):.2f}" for one in (run, *run.repeats())]
    assert [row[1] for row in tables["repeats"].rows] == [row[-1] for row in tables["main"].rows]
    assert "Of the first of 3 searches, not of the best." in tables["main"].note
    assert [row[:3] for row in tables["repeats_terms"].rows] == [[str(n), str(99 + n), "24"] for n in (1, 2, 3)]
    assert len(tables["repeats_audit"].rows) == 12
    assert any("there were 54 test evaluations for 54 retrained models" in remark for remark in report.remarks)
    assert "Audit of the repeats: their files fit together too." in report.remarks
    assert warnings(run) == []
    assert "The results of 3 searches" in report.terminal()


def test_whole_searches_are_the_units(run: RunDir) -> None:
    """Three searches of one data set give the set of possible bests, with its unit; a seed used twice is one unit."""
    report = build_report(run)
    assert report.tables[0].name == "possible_bests"
    told = "on birds, over 3 searches of 4 trials, each with its own validation split"
    assert report.answer.lines[1].startswith("Of 3 methods, ")
    assert told in report.answer.lines[1]
    assert report.answer.content["unit"] == told
    second, _ = run.repeats()
    second.experiment_file.write_text(second.experiment_file.read_text().replace("= 101", "= 100"))
    assert [search.number for search in independent(read_searches(run, read_studies(run)))] == [1, 3]
    assert "on birds, over 2 searches of 4 trials" in build_report(run).answer.lines[1]


def test_a_run_without_repeats_says_nothing_of_them(tmp_path: Path) -> None:
    """No table, no note, and no verdict: the answer says what is open, and the command that decides it."""
    made = write_run(tmp_path / "run", ("birds",), methods=2, trials=4, epochs=2, sampler="tpe")
    report = build_report(made)
    assert not any(table.name.startswith("repeats") for table in report.tables)
    assert "searches" not in report.tables[0].note
    assert UNDECIDED in report.answer.lines
    assert report.answer.lines[-1].endswith(f"To compare the methods: cotuning-tune resume {made.path} --aim methods.")


def test_a_repeat_says_whose_it_is(run: RunDir) -> None:
    """A repeat's own report sends its reader to the run, lest the best of K be shown."""
    assert any("belong into the report of run" in remark for remark in build_report(run.repeats()[0]).remarks)


def test_unfinished_searches_are_left_out(run: RunDir) -> None:
    """A search with a seed missing, and one that has not begun, are named and take no part."""
    second, third = run.repeats()
    next(third.path.glob("studies/*/retrain/seed2/result.json")).unlink()
    found = read_searches(run, read_studies(run))
    assert [search.number for search in comparable(found)] == [1, 2]
    for path in second.path.glob("studies/*/study.json"):
        path.unlink()
    found = read_searches(run, read_studies(run))
    assert [search.number for search in found] == [1, 3]
    assert comparable(found) == []
    report = build_report(run)
    assert "repeats" not in {table.name for table in report.tables}
    assert any(remark.startswith("Search 2, 3 of 3 has not ended") for remark in report.remarks)


def test_the_audit_reads_repeats_too(run: RunDir) -> None:
    """An edited result of a repeat is named, with its search."""
    path = next(run.repeats()[1].path.glob("studies/*/retrain/seed0/result.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_score": 99.9}))
    found = [w for w in warnings(run) if w.startswith("WARNING: search 3: ")]
    assert len(found) == 1
    assert "damaged or edited" in found[0]


def test_searches_that_are_no_repeats(run: RunDir) -> None:
    """The same seed, another experiment and other budgets are told."""
    second, third = run.repeats()
    second.experiment_file.write_text(second.experiment_file.read_text().replace("= 101", "= 100"))
    third.space_file.write_text(third.space_file.read_text() + "\n[more]\n")
    for folder in third.path.glob("studies/*-delta"):
        study = read_json(folder / "study.json")
        study["trials"] = study["trials"][:2]
        write_json(folder / "study.json", study)
    told = warnings(run)
    assert any("the same search seed (100, 100, 102)" in warning for warning in told)
    assert any("search 3 is of another experiment" in warning for warning in told)
    assert any(w.startswith("UNEQUAL TERMS: search 3 and search 1 of delta: 4 against 8 trials") for w in told)


def test_what_weakens_the_repeats_is_told(run: RunDir) -> None:
    """Repeats asked for after tests, and searches told the same older trials."""
    write_json(run.repeats_file, {"searches": 3, "time": 0.0, "after_tests": True})
    write_json(run.environment, read_json(run.environment) | {"from": "runs/old"})
    remarks = build_report(run).remarks
    assert "The repeats were asked for after search 1 had made test evaluations." in remarks
    assert any("less independent" in remark for remark in remarks)


def test_a_failed_seed_of_a_repeat_is_told(run: RunDir) -> None:
    """A seed that failed in a repeat is a warning with the search's number, and does not stop the table."""
    folder = run.repeats()[0].study("birds-1.00-delta").retrain(1)
    write_json(folder.result, {**read_json(folder.result), "state": "FAIL", "reason": "not finite"})
    assert "WARNING: search 2: delta on birds at 100 %: seed 1 failed: not finite" in warnings(run)
    assert "repeats" in {table.name for table in build_report(run).tables}


def test_test_evaluations_are_those_of_the_ledgers(run: RunDir) -> None:
    """A further test evaluation in a repeat's ledger counts, though there is no model for it."""
    entry = next(e for e in ledger.read(run.repeats()[0].ledger) if e["event"] == "test_evaluation")
    ledger.append(run.repeats()[0].ledger, {k: v for k, v in entry.items() if k not in ("time", "previous", "hash")})
    assert any("55 test evaluations for 54" in remark for remark in build_report(run).remarks)
    assert any("more test evaluations than models" in warning for warning in warnings(run))
