"""Words follow from the claims: better only with its unit, never from seeds or rates, and at equal budgets."""

from dataclasses import replace
from typing import Any

import pytest

from cotuning_tune.report.comparison import (
    BETTER,
    NOTHING,
    UNDECIDED,
    UNEQUAL,
    WORSE,
    Comparisons,
    baseline_table,
    bests_remark,
    bests_table,
    budgets_differ,
    compare_methods,
    comparison_remarks,
    verdict,
    verdict_lines,
)
from cotuning_tune.report.overview import gap_table, main_table
from cotuning_tune.report.results import StudyResult

RATES = (0.15, 0.3, 0.5, 1.0)
TASKS = ("birds", "cars", "planes", "pets")
WIGGLE = (0.0, 0.3, -0.2, 0.1)
SHIFT = {"fine_tune": 0, "bss": 1, "delta": 2, "l2_sp": 3, "co_tuning": 3, "lwf": 0}  # no two move alike


def study(
    method: str, task: str, accuracies: dict[int, float], rate: float = 1.0, trials: int = 20, epochs: int = 10
) -> StudyResult:
    rows: list[dict[str, Any]] = [
        {"number": n, "state": "COMPLETE", "value": 50.0, "values": {}, "epochs": epochs, "seconds": 1.0}
        for n in range(trials)
    ]
    seeds = [
        {"seed": s, "state": "COMPLETE", "test_score": a, "val_score": a + 1, "seconds": 1.0}
        for s, a in accuracies.items()
    ]
    return StudyResult(task, rate, method, trials, rows, {"val_score": 55.0}, seeds)


def method(name: str, gain: float, tasks: tuple[str, ...] = TASKS, **budget: int) -> list[StudyResult]:
    """Studies whose seeds lie ``gain``, and a little luck of the search, above 50."""
    return [
        study(name, task, dict.fromkeys(range(3), 50.0 + gain + WIGGLE[(i + SHIFT[name]) % 4]), **budget)
        for i, task in enumerate(tasks)
    ]


def test_backbones_of_one_data_set_are_no_units() -> None:
    """Of one data set on several backbones nothing is said of methods; of several the backbones are averaged."""
    one, many = [], []
    for tasks, found in ((TASKS[:1], one), (TASKS, many)):
        for backbone, shift in (("resnet50", 0.0), ("vit_b_16", 8.0)):
            for name, gain in (("fine_tune", shift), ("bss", shift + 4.0)):
                found += [replace(s, backbone=backbone) for s in method(name, gain, tasks)]
    assert compare_methods([one]).why == UNDECIDED
    claim = compare_methods([many]).claim
    assert claim is not None
    assert claim.units == list(TASKS)
    assert claim.means["fine_tune"] == pytest.approx(54.0, abs=0.5)
    assert [len(effect.differences) for effect in claim.effects] == [len(TASKS)]


def base(tasks: tuple[str, ...] = TASKS) -> list[StudyResult]:
    return method("fine_tune", 0.0, tasks)


def words(found: Comparisons) -> dict[str, str]:
    assert found.claim is not None
    return {effect.method: verdict(effect) for effect in found.claim.effects}


def test_words_with_their_unit() -> None:
    """Over four data sets two methods are told apart from the baseline, one has no word; each sentence has the unit."""
    studies = base() + method("bss", 2.0) + method("delta", -2.0) + method("l2_sp", 0.1)
    found = compare_methods([studies])
    assert words(found) == {"bss": BETTER, "delta": WORSE, "l2_sp": NOTHING}
    (best,) = bests_remark(found)
    better, worse = verdict_lines(found)
    assert best.startswith(
        "Of 4 methods, 1 may be the best on these 4 data sets: bss. A method must differ from fine_tune by "
    )
    assert best.endswith(" points to be told apart here; these differ by at most 2.0.")
    assert better == "Better than fine_tune on these 4 data sets, in points: bss +2.0."
    assert worse == "Worse than fine_tune on these 4 data sets, in points: delta -2.0."
    table = baseline_table(found)
    assert table is not None
    assert [row[-1] for row in table.rows] == [f"{w} on these 4 data sets" for w in (BETTER, WORSE)] + [NOTHING]


def test_the_set_heads_the_comparison() -> None:
    """Methods by their means, and whether each may be the best."""
    table = bests_table(compare_methods([base() + method("bss", 2.0) + method("co_tuning", 2.1)]))
    assert table is not None
    assert [[row[0], row[3]] for row in table.rows] == [["co_tuning", "yes"], ["bss", "yes"], ["fine_tune", "no"]]
    assert table.rows[0][2] == "0.00"


@pytest.mark.parametrize("rates", [(1.0,), RATES])
def test_one_data_set_searched_once_has_no_verdict(rates: tuple[float, ...]) -> None:
    """However far apart, however many rates and seeds: which method is better is open, and that is said."""
    studies = [
        study(name, "birds", {s: 50.0 + gain + WIGGLE[s % 4] for s in range(8)}, rate)
        for name, gain in (("fine_tune", 0.0), ("bss", 30.0))
        for rate in rates
    ]
    found = compare_methods([studies])
    assert (found.claim, baseline_table(found), bests_table(found)) == (None, None, None)
    assert (found.why, bests_remark(found), verdict_lines(found)) == (UNDECIDED, [], [])
    assert comparison_remarks(studies, found) == []
    assert main_table(studies, found).bold == frozenset()


def test_whole_searches_are_units_of_one_data_set() -> None:
    """Two searches of one data set: the words name them; the rates of a search are one unit."""
    searches = [
        [
            study(name, "birds", {0: 50.0 + gain + WIGGLE[(number + SHIFT[name]) % 4]}, rate)
            for name, gain in (("fine_tune", 0.0), ("bss", 9.0), ("delta", 0.1))
            for rate in RATES
        ]
        for number in range(2)
    ]
    found = compare_methods(searches)
    assert found.scope == "on birds, over 2 searches of 20 trials, each with its own validation split"
    assert found.claim is not None
    assert len(found.claim.units) == 2
    assert words(found) == {"bss": BETTER, "delta": NOTHING}


def test_sign_flips_from_eight_units_on() -> None:
    """The sign-flip p stands beside the others where it can be small."""
    for count, there in ((7, False), (8, True)):
        tasks = tuple(f"t{n}" for n in range(count))
        table = baseline_table(compare_methods([base(tasks) + method("bss", 2.0, tasks)]))
        assert table is not None
        assert ("p (sign flip)" in table.header) == there
        assert len(table.rows[0]) == len(table.header)


def test_units_that_a_method_lacks() -> None:
    """A data set without results of one method takes no part, and is named; so is a method without any."""
    studies = [*base(), *method("bss", 2.0, TASKS[:3]), study("bss", "pets", {}), *(study("lwf", t, {}) for t in TASKS)]
    found = compare_methods([studies])
    assert found.scope == "on these 3 data sets"
    remarks = comparison_remarks(studies, found)
    assert "Left out of the comparison, since a method lacks results there: pets." in remarks
    assert "Not compared, since they have no whole unit of results: lwf." in remarks


def test_a_missing_rate_is_a_missing_unit() -> None:
    """The mean over other rates is not the same figure: a data set counts with all its rates."""
    studies = [*base(), *method("bss", 2.0), study("fine_tune", "cars", {0: 20.0}, 0.15)]
    studies.append(study("bss", "cars", {0: 60.0}, 0.3))
    assert compare_methods([studies]).left_out == ["cars"]


def test_a_wild_method_is_told() -> None:
    """Another test is named where one method's variance is not that of the others."""
    studies = base() + method("bss", 0.1) + method("delta", 0.2)
    studies += [study("l2_sp", task, {0: 50.0 + wild}) for task, wild in zip(TASKS, (20, -20, 15, -15), strict=True)]
    found = compare_methods([studies])
    assert any(r.startswith("l2_sp varies more from unit to unit") for r in comparison_remarks(studies, found))
    table = baseline_table(found)
    assert table is not None
    assert "p (adjusted)" in table.header
    assert "; of pairs with l2_sp only the paired t" in table.note


@pytest.mark.parametrize(
    ("budget", "judged"),
    [({"trials": 19}, True), ({"trials": 18}, False), ({"epochs": 11}, False), ({"trials": 22}, False)],
)
def test_unequal_budgets_refuse_the_word(budget: dict[str, int], judged: bool) -> None:
    """Trials or epochs more than 5 % apart, in either direction: no method is called better, or the best."""
    studies = base() + method("delta", 0.1) + method("bss", 2.0, **budget)
    found = compare_methods([studies])
    assert found.claim is not None
    assert ("bss" in found.claim.bests, words(found).get("bss")) == ((True, BETTER) if judged else (False, None))
    warned = any(r.startswith("WARNING: bss is not judged") for r in comparison_remarks(studies, found))
    table = baseline_table(found)
    assert table is not None
    assert (UNEQUAL in table.rows[-1]) == warned == (not judged)


@pytest.mark.parametrize("state", ["FAIL", "PRUNED"])
def test_a_trial_counts_however_it_ended(state: str) -> None:
    """A trial that failed by its own fault, or was stopped early, has used up its draw: 9 of 20 are no difference."""
    mine = base()
    for one in mine:
        one.trials[:9] = [{"state": state, "epochs": 1, "values": {}} for _ in range(9)]
    assert budgets_differ(base(), mine) == ""
    mine[0].trials.extend({"state": state, "epochs": 1, "values": {}} for _ in range(20))
    assert budgets_differ(base(), mine) == "80 against 100 trials"


def test_no_baseline() -> None:
    """A run without fine-tuning is told what it lacks; the set of possible bests stays."""
    studies = method("bss", 1.0) + method("delta", 3.0)
    found = compare_methods([studies])
    assert baseline_table(found) is None
    (best,), (warning,) = bests_remark(found), comparison_remarks(studies, found)
    assert best.startswith("Of 2 methods, 1 may be the best on these 4 data sets: delta.")
    assert warning.startswith("WARNING: the run has no fine_tune")


def test_bold_follows_the_claim() -> None:
    """Bold is the average of a method called better, and nothing else; the note says on what."""
    studies = base() + method("bss", 2.0) + method("delta", -2.0)
    table = main_table(studies, compare_methods([studies]))
    assert table.bold == {(1, 5)}
    assert "**52.05**" in table.markdown()
    assert r"\textbf{52.05}" in table.latex()
    assert "*" not in table.csv()
    assert table.note.endswith("Bold: better than tuned fine-tuning on these 4 data sets.")


def test_one_method_has_nothing_to_compare() -> None:
    """Of a run with one method nothing is open: no sentence about methods."""
    studies = method("bss", 1.0)
    found = compare_methods([studies])
    assert (found.claim, found.why, bests_remark(found)) == (None, "", [])


def test_gaps_by_hand() -> None:
    """Search 55, retrained 51, tested 50: the choice was worth 4 points, the test lies 1 below validation."""
    assert gap_table([study("fine_tune", "birds", {0: 50.0})]).rows == [
        ["fine_tune", "55.00", "51.00", "50.00", "-4.00", "-1.00"]
    ]
