"""The search-space diagnostics finds what was planted, and gives the line to change."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.report import build_report
from cotuning_tune.report.diagnostics import Space, diagnostics_table, examine, read_space, widened
from cotuning_tune.report.results import StudyResult
from tests.report.synthetic import write_run

LR = {"low": 1e-4, "high": 1e-2, "log": True, "of": "train"}
WEIGHT = {"low": 1e-5, "high": 1e-1, "log": True, "of": "bss"}
TEXT = """[experiment]
methods = ["fine_tune", "bss"]

[train.optim]
lr = { low = 1e-4, high = 1e-2, log = true }
"""


def space(**searched: Any) -> Space:
    return Space({"optim/lr": LR, "bss/weight": WEIGHT} | searched, TEXT)


def trial(number: int, value: float | None, **values: float) -> dict[str, Any]:
    state = "COMPLETE" if value is not None else "FAIL"
    given = {key.replace("_", "/"): v for key, v in values.items()}
    return {"number": number, "state": state, "value": value, "values": given}


def study(
    method: str, trials: list[dict[str, Any]], edge: tuple[str, ...] = (), accuracies: tuple[float, ...] = ()
) -> StudyResult:
    done = [t for t in trials if t["state"] == "COMPLETE"]
    best = max(done, key=lambda t: t["value"])
    seeds = [{"seed": n, "state": "COMPLETE", "test_accuracy": a} for n, a in enumerate(accuracies)]
    selection = {"values": best["values"], "at_edge": list(edge), "val_accuracy": best["value"]}
    return StudyResult("birds", 1.0, method, len(trials), False, trials, selection, seeds)


def test_an_edge_of_a_shared_range() -> None:
    """A learning rate at its high end is widened there, in its own line, with the methods that want it."""
    (found,) = examine(space(), [study("bss", [trial(0, 50.0, optim_lr=9.5e-3)], ("optim/lr",))])
    assert (found.finding, found.where) == ("optim/lr at an edge", "bss")
    assert found.evidence == "1 of 1 chosen values at the high end"
    assert found.change == "line 5: lr = {low = 0.0001, high = 0.1, log = true}"


def test_a_key_that_the_file_does_not_set() -> None:
    """A range that stands on the field alone is given with the table it belongs to."""
    (found,) = examine(space(), [study("bss", [trial(0, 50.0, bss_weight=0.09)], ("bss/weight",))])
    assert found.change == "under [methods.bss]: weight = {low = 1e-05, high = 1.0, log = true}"


def test_the_lines_can_be_pasted() -> None:
    """Every change is TOML that pins nothing: a list or a range."""
    for search, upwards in ((LR, True), (LR, False), ({"options": [1.0, 10.0, 30.0]}, True)):
        change = Space({"v": {**search, "of": "train"}}, "").change("v", widened(search, upwards))
        assert isinstance(tomllib.loads(change.removeprefix("under [train]: "))["v"], (dict, list))


@pytest.mark.parametrize(
    ("search", "upwards", "expected"),
    [
        ({"low": 1e-4, "high": 3e-2, "log": True}, True, {"low": 1e-4, "high": 0.3, "log": True}),
        ({"low": 1e-4, "high": 3e-2, "log": True}, False, {"low": 1e-5, "high": 3e-2, "log": True}),
        ({"low": 0.0, "high": 5.0, "log": False}, True, {"low": 0.0, "high": 7.5, "log": False}),
        ({"low": 1.0, "high": 5.0, "log": False}, False, {"low": 0.0, "high": 5.0, "log": False}),
        ({"low": 2, "high": 8, "log": False}, True, {"low": 2, "high": 11, "log": False}),
        ({"options": [10.0, 1.0, 30.0]}, True, [1.0, 10.0, 30.0, 90.0]),
        ({"options": [1.0, 10.0, 30.0]}, False, [0.1, 1.0, 10.0, 30.0]),
        ({"options": [0, 8, 16]}, False, [0, 8, 16]),
    ],
)
def test_more_room(search: dict[str, Any], upwards: bool, expected: Any) -> None:
    """A decade for a logarithm, half the width else, one more number of a list; whole stays whole, none below 0."""
    got = widened(search, upwards)
    assert got == expected
    if isinstance(expected, dict):
        assert [type(v) for v in got.values()] == [type(v) for v in expected.values()]


def weighed(accuracy_of_third: tuple[float, float, float]) -> list[dict[str, Any]]:
    """Four trials in each third of the weight's range; the best of each third as given."""
    weights = [3e-5, 1e-3, 3e-2]
    return [
        trial(4 * third + n, accuracy_of_third[third] - n, bss_weight=weights[third])
        for third in range(3)
        for n in range(4)
    ]


def test_a_flat_weight() -> None:
    """Best accuracies that hardly depend on the weight: the method acts as fine-tuning; more weight is advised."""
    (found,) = examine(space(), [study("bss", weighed((70.1, 70.2, 70.0)))])
    assert found.finding == "bss/weight is flat: the method acts as fine-tuning"
    assert "70.10, 70.20, 70.00" in found.evidence
    assert found.change.endswith("weight = {low = 1e-05, high = 1.0, log = true}")


def test_a_weight_that_matters_is_not_flat() -> None:
    """A hill over the weight is no finding; nor are too few trials to tell."""
    assert examine(space(), [study("bss", weighed((68.0, 72.0, 69.0)))]) == []
    assert examine(space(), [study("bss", weighed((70.0, 70.0, 70.0))[:8])]) == []


def test_best_near_its_neutral_value() -> None:
    """A weight chosen at its low end is named; where off is zero already, there is nothing to change."""
    low = study("bss", [trial(0, 50.0, bss_weight=1e-5)], ("bss/weight",))
    (found,) = examine(space(), [low])
    assert found.finding == "bss/weight is best near its neutral value"
    assert "low = 1e-06" in found.change
    linear = {"low": 0.0, "high": 5.0, "log": False, "of": "bss"}
    (found,) = examine(Space({"bss/weight": linear}, TEXT), [study("bss", [trial(0, 50.0, bss_weight=0.0)])])
    assert found.change == ""
    table = diagnostics_table([found])
    assert table is not None
    assert table.rows[0][3] == "nothing to change"


def test_test_results_are_not_looked_at() -> None:
    """Below tuned fine-tuning on every seed: the diagnostics say nothing, and propose no change of the space."""
    base = study("fine_tune", [trial(0, 60.0)], accuracies=(50.0, 50.0, 50.0))
    mine = study("bss", [trial(0, 60.0, bss_weight=1e-3)], accuracies=(49.0, 48.0, 47.0))
    assert examine(space(), [base, mine]) == []


def test_a_diverging_region() -> None:
    """Failures at high learning rates only: the range is to end below them, above what was chosen."""
    good = [trial(n, 50.0 + n, optim_lr=1e-4 * 2**n) for n in range(5)]
    bad = [trial(5 + n, None, optim_lr=6e-3 + 1e-3 * n) for n in range(3)]
    (found,) = examine(space(), [study("fine_tune", good + bad)])
    assert found.finding == "high learning rates diverge"
    assert found.evidence == "3 of 3 trials with optim/lr of at least 0.006 failed"
    assert found.change == "line 5: lr = {low = 0.0001, high = 0.006, log = true}"


def test_failures_everywhere_are_no_region() -> None:
    """Failures spread over all learning rates say nothing of the range."""
    rows = [trial(n, 50.0 if n % 3 else None, optim_lr=1e-4 * 1.4**n) for n in range(12)]
    assert examine(space(), [study("fine_tune", rows)]) == []


def test_of_a_whole_run(tmp_path: Path) -> None:
    """A made-up run in which high learning rates fail: the line is that of its experiment file."""
    run = write_run(tmp_path / "run", ("birds",), (0.15, 1.0), methods=3, files=False)
    changes = [row[3] for table in build_report(run).tables if table.name == "diagnostics" for row in table.rows]
    lines = run.experiment_file.read_text().splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if line.startswith("lr ="))
    assert any(change.startswith(f"line {number}: lr = ") for change in changes)
    assert read_space(run).searched["l2_sp/weight"]["of"] == "l2_sp"
