"""Words follow from numbers: better only where the paired test says so and the budgets are equal."""

from typing import Any

import pytest

from cotuning_tune.report.comparison import (
    BETTER,
    FEW,
    NOTHING,
    UNEQUAL,
    WORSE,
    Comparison,
    against_baseline,
    against_best_ranked,
    baseline_table,
    best_ranked,
    budgets_differ,
    pairs_remark,
    verdict_remarks,
)
from cotuning_tune.report.overview import gain_table, gap_table, main_table
from cotuning_tune.report.results import StudyResult

RATES = (0.15, 0.3, 0.5, 1.0)
WIGGLE = (0.0, 0.3, -0.2)


def study(method: str, rate: float, accuracies: dict[int, float], trials: int = 20, epochs: int = 10) -> StudyResult:
    rows: list[dict[str, Any]] = [
        {"number": n, "state": "COMPLETE", "value": 50.0, "values": {}, "epochs": epochs, "seconds": 1.0}
        for n in range(trials)
    ]
    seeds = [
        {"seed": s, "state": "COMPLETE", "test_accuracy": a, "val_accuracy": a + 1, "seconds": 1.0}
        for s, a in accuracies.items()
    ]
    return StudyResult("birds", rate, method, trials, False, rows, {"val_accuracy": 55.0}, seeds)


def method(name: str, gain: float, rates: tuple[float, ...] = RATES, **budget: int) -> list[StudyResult]:
    """Studies whose seeds lie ``gain`` and a little noise above 50."""
    return [
        study(name, rate, {s: 50.0 + gain + WIGGLE[(s + i) % 3] for s in range(3)}, **budget)
        for i, rate in enumerate(rates)
    ]


def base(rates: tuple[float, ...] = RATES, **budget: int) -> list[StudyResult]:
    return [study("fine_tune", rate, dict.fromkeys(range(3), 50.0), **budget) for rate in rates]


def only(studies: list[StudyResult]) -> Comparison:
    (comparison,) = against_baseline(studies)
    return comparison


@pytest.mark.parametrize(("gain", "word"), [(2.0, BETTER), (-2.0, WORSE), (0.0, NOTHING)])
def test_words(gain: float, word: str) -> None:
    """Twelve pairs all above or all below give a word; pairs on both sides give none."""
    found = only(base() + method("bss", gain))
    assert (found.verdict, len(found.differences), found.settings) == (word, 12, 4)
    assert found.difference == pytest.approx(gain + 0.1 / 3, abs=1e-9)


def test_three_seeds_in_one_study_prove_nothing() -> None:
    """However far apart, three pairs are too few: p is 0.25."""
    found = only(base((1.0,)) + method("bss", 30.0, (1.0,)))
    assert (found.p, found.verdict) == (0.25, FEW)
    remarks = verdict_remarks(base((1.0,)) + method("bss", 30.0, (1.0,)), [found])
    assert any("One study says nothing about other tasks" in remark for remark in remarks)
    assert pairs_remark([found]) == [
        "Smallest p that the pairs of study and seed can reach, before Holm's correction: 3 pairs 0.2500."
    ]


def test_holm_over_methods_can_take_the_word() -> None:
    """Six pairs reach 0.03 alone; among eight methods that is too few for a word."""
    two = (0.15, 1.0)
    alone = only(base(two) + method("m0", 2.0, two))
    studies = base(two) + [c for n in range(8) for c in method(f"m{n}", 2.0, two)]
    assert (alone.p, alone.verdict) == (0.03125, BETTER)
    assert {(c.p, c.p_holm, c.verdict) for c in against_baseline(studies)} == {(0.03125, 0.25, FEW)}


@pytest.mark.parametrize(
    ("budget", "word"),
    [({"trials": 19}, BETTER), ({"trials": 18}, UNEQUAL), ({"epochs": 11}, UNEQUAL), ({"trials": 22}, UNEQUAL)],
)
def test_unequal_budgets_refuse_the_word(budget: dict[str, int], word: str) -> None:
    """Trials or epochs more than 5 % apart, in either direction: no method is called better."""
    studies = base() + method("bss", 2.0, **budget)
    found = only(studies)
    assert found.verdict == word
    warned = any(r.startswith("WARNING: bss is not judged") for r in verdict_remarks(studies, [found]))
    assert warned == (word == UNEQUAL)


def test_failed_trials_are_no_budget() -> None:
    """Failed trials are replaced by others: they do not count as an advantage."""
    more = base()
    more[0].trials.extend({"state": "FAIL", "epochs": 9, "values": {}} for _ in range(20))
    assert budgets_differ(base(), more) == ""


def test_pairs_are_shared_seeds_of_shared_studies() -> None:
    """A seed or a study that one side lacks is left out."""
    ours = [study("bss", 0.15, {0: 52.0, 7: 99.0}), study("bss", 0.77, {0: 99.0})]
    found = only([*base(), *ours])
    assert (found.differences, found.p_settings) == ([2.0], 1.0)


def test_no_baseline() -> None:
    """A run without fine-tuning is told what it lacks, and has no gains."""
    studies = method("bss", 1.0)
    assert against_baseline(studies) == []
    assert baseline_table([]) is None
    assert gain_table(studies) is None
    assert verdict_remarks(studies, [])[0].startswith("WARNING: the run has no fine_tune")


def test_the_first_against_the_others() -> None:
    """The method with the highest mean over the settings is compared with every other one."""
    studies = base() + method("bss", 1.0) + method("delta", 2.0)
    assert best_ranked(studies) == "delta"
    assert [c.name for c in against_best_ranked(studies)] == ["delta - fine_tune", "delta - bss"]
    assert [c.verdict for c in against_best_ranked(studies)] == [BETTER, BETTER]


def test_a_method_with_a_hole_is_not_first() -> None:
    """The mean over settings needs every setting."""
    assert best_ranked([*base(), *method("bss", 9.0, RATES[:3])]) == "fine_tune"


def test_bold_follows_the_test() -> None:
    """Bold is the average of a method called better, and nothing else; without the word nothing is bold."""
    studies = base() + method("bss", 2.0) + method("delta", -2.0)
    table = main_table(studies, against_baseline(studies))
    assert table.bold == {(1, 5)}
    assert "**52.03**" in table.markdown()
    assert r"\textbf{52.03}" in table.latex()
    assert "*" not in table.csv()
    few = base((1.0,)) + method("bss", 30.0, (1.0,))
    assert main_table(few, against_baseline(few)).bold == frozenset()


def test_gains_by_hand() -> None:
    """52 against 50 is +2 points and +4 %; the average has its own."""
    studies = [*base(RATES[:2]), study("bss", 0.15, {0: 52.0}), study("bss", 0.3, {0: 49.0, 1: 50.0})]
    table = gain_table(studies)
    assert table is not None
    assert table.rows == [["bss", "+2.00 (+4.0 %)", "-0.50 (-1.0 %)", "+0.75 (+1.5 %)"]]


def test_gaps_by_hand() -> None:
    """Search 55, retrained 51, tested 50: the choice was worth 4 points, the test lies 1 below validation."""
    assert gap_table(base()).rows == [["fine_tune", "55.00", "51.00", "50.00", "-4.00", "-1.00"]]
