"""Expected best and repeated searches against brute force; refused where trials are no independent draws."""

import itertools
import random
from statistics import fmean
from typing import Any

import pytest

from cotuning_tune.report.results import StudyResult
from cotuning_tune.report.stability import (
    expected_best,
    expected_best_table,
    refusal,
    share_of_first,
    stability_remarks,
    stability_table,
)


def study(method: str, values: list[float | None], state: str = "COMPLETE") -> StudyResult:
    """A study whose trials have these accuracies; None: stopped early."""
    rows: list[dict[str, Any]] = [
        {
            "number": n,
            "state": "PRUNED" if value is None else state,
            "value": value,
            "values": {"optim/lr": 0.1} if method == "fine_tune" else {"optim/lr": 0.1, f"{method}/weight": 1.0},
        }
        for n, value in enumerate(values)
    ]
    return StudyResult("birds", 1.0, method, len(rows), False, rows, {"val_accuracy": 1.0}, [])


@pytest.mark.parametrize("values", [[3.0], [1.0, 4.0, 2.0, 2.0, 7.5], [5.0, 5.0, 5.0]])
def test_expected_best_as_brute_force(values: list[float]) -> None:
    """For each k it is the mean over all choices of k trials of the best one."""
    expected = [fmean(max(part) for part in itertools.combinations(values, k + 1)) for k in range(len(values))]
    assert expected_best(values) == pytest.approx(expected, abs=1e-12)


def test_expected_best_of_three_by_hand() -> None:
    """Of 1, 2, 4: one trial gives 7/3, two give (2 + 4 + 4)/3, three give 4."""
    assert expected_best([4.0, 1.0, 2.0]) == pytest.approx([7 / 3, 10 / 3, 4.0])
    assert expected_best([]) == []


def test_the_table_leaves_the_fixed_trials_out() -> None:
    """Trial 0, and trial 1 of a method that can be switched off, were not drawn."""
    studies = [study("fine_tune", [90.0, 1.0, 2.0]), study("bss", [90.0, 90.0, 1.0, 3.0])]
    table = expected_best_table({"sampler": "qmc"}, studies)
    assert table is not None
    assert table.header == ["trials", "fine_tune", "bss"]
    assert table.rows == [["1", "1.500", "2.000"], ["2", "2.000", "3.000"]]


@pytest.mark.parametrize("sampler", ["tpe", "gp", None])
def test_refused_for_samplers_that_look_back(sampler: str | None) -> None:
    """TPE and GP trials depend on each other: no curve, no repeated search, and the report says why."""
    experiment = {"sampler": sampler} if sampler else {}
    assert "depend on each other" in refusal(experiment)
    assert expected_best_table(experiment, [study("bss", [1.0, 2.0, 3.0, 4.0])]) is None
    (remark,) = stability_remarks(refusal(experiment), {}, "bss")
    assert "--repeat-search K" in remark


def test_no_curve_of_stopped_trials() -> None:
    """The expected best needs trials of full length."""
    assert expected_best_table({"sampler": "random"}, [study("bss", [1.0, 2.0, 3.0, None])]) is None


def literal_share(one: list[float | None], other: list[float], searches: int = 20_000) -> float:
    """How often the first method's best beats the other's, trials drawn one by one; two fixed trials each."""
    rng, wins = random.Random(9), 0.0
    for _ in range(searches):
        best = [
            max([v for v in (*values[:2], *rng.choices(values[2:], k=len(values) - 2)) if v is not None])
            for values in (one, other)
        ]
        wins += 1.0 if best[0] > best[1] else 0.5 if best[0] == best[1] else 0.0
    return wins / searches


def test_the_share_as_drawn_one_by_one() -> None:
    """Drawing the rank of the best at once gives what drawing every trial gives, stopped trials included."""
    one: list[float | None] = [3.0, 1.0, 5.0, None, 8.0, 2.0, None, 6.0]
    other = [4.0, 6.0, 1.0, 7.0, 3.0, 5.0]
    shares = share_of_first([study("bss", one), study("delta", list(other))])
    assert shares["bss"] == pytest.approx(literal_share(one, other), abs=0.05)
    assert sum(shares.values()) == pytest.approx(1)


def test_who_is_always_ahead_stays_first() -> None:
    """A method whose worst trial beats the other's best is first in every search; equals share."""
    ahead, behind = study("bss", [9.0, 9.0, 9.5, 9.9]), study("delta", [1.0, 2.0, 3.0, 4.0])
    assert share_of_first([ahead, behind]) == {"bss": 1.0, "delta": 0.0}
    assert share_of_first([study("bss", [2.0] * 4), study("delta", [2.0] * 4)]) == {"bss": 0.5, "delta": 0.5}


def test_the_first_by_test_need_not_be_first_again() -> None:
    """The remark names the method that leads by validation, where it is another one."""
    shares = {"bss": 0.25, "delta": 0.75}
    (remark,) = stability_remarks("", shares, "bss")
    assert "bss would be first by validation accuracy in 25 % of cases, delta in 75 %" in remark
    table = stability_table([study("bss", [1.0]), study("delta", [1.0])], shares)
    assert table is not None
    assert [row[2] for row in table.rows] == ["25.0 %", "75.0 %"]
    assert "repeated with other seeds" in table.note


def test_one_method_needs_no_share() -> None:
    """Of a single method, or none with every setting, there is nothing to say."""
    assert stability_table([study("bss", [1.0])], {"bss": 1.0}) is None
    assert share_of_first([study("bss", [None, None], "FAIL")]) == {}
