"""The lines that change a space can be pasted; a validation split unlike the test split is warned of."""

import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.report import build_report
from cotuning_tune.report.advice import Space, read_space, widened
from cotuning_tune.report.diagnostics import examine, unlike_remarks
from cotuning_tune.report.results import StudyResult
from tests.report.synthetic import write_run

LR = {"low": 1e-4, "high": 1e-2, "log": True, "of": "train"}
METHODS = ("fine_tune", "l2_sp", "delta", "bss", "co_tuning")


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


def retrained(
    val: list[float], test: list[float], val_count: int = 200, test_count: int = 2000, trials: int = 32
) -> list[StudyResult]:
    """A study of each method of one setting with a retrained model: validation and test accuracy."""
    rows = [{"number": n, "state": "COMPLETE", "value": 60.0, "values": {}, "epochs": 10} for n in range(trials)]
    return [
        StudyResult(
            *("fruit", 1.0, method, trials, rows, None),
            [{"seed": 0, "state": "COMPLETE", "val_score": v, "test_score": t, "test_count": test_count}],
            val_count=val_count,
        )
        for method, v, t in zip(METHODS, val, test, strict=False)
    ]


def test_photos_of_one_visit_in_both_splits() -> None:
    """81 % on validation against 44 % on test is warned of, with the usual causes, and changes nothing in the space."""
    made = retrained([81.0, 80.5, 81.5], [44.0, 43.0, 45.0])
    (remark,) = unlike_remarks(made)
    assert remark.startswith("WARNING: validation is unlike test on fruit 100 %")
    assert "81.0 % on validation, 44.0 % on test" in remark
    assert "`cotuning-tune data verify`" in remark
    assert unlike_remarks(retrained([81.0], [44.0], 60, 200))
    assert examine(Space({}, ""), made) == []


def test_the_usual_causes_are_told_once() -> None:
    """Two settings have a warning each; the last one tells the causes for both."""
    made = retrained([81.0], [44.0])
    one, other = unlike_remarks([*made, *(replace(study, rate=0.15) for study in made)])
    assert ("Usual causes" in one, "Usual causes" in other) == (False, True)
    assert one.startswith("WARNING: validation is unlike test on fruit 100 %")


def test_an_unknown_split_is_not_judged() -> None:
    """Without the number of validation or test images, or a retrained model, there is no warning."""
    made = retrained([81.0], [44.0])
    assert unlike_remarks([replace(study, val_count=0) for study in made]) == []
    assert unlike_remarks(retrained([81.0], [44.0], test_count=0)) == []
    assert unlike_remarks([replace(study, seeds=[]) for study in made]) == []


def test_a_chosen_model_does_not_alarm() -> None:
    """Where both splits are alike, at most 1 % of 1000 reports warn (measured over 10000: 0.5 %; error 0.1).

    Half of the retrained model's luck in validation is that of the best of 32 trials, half its own; then the best of
    ten epochs is taken, nine tenths of whose luck they share.
    """
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(1000):
        val_count, test_count, true = int(rng.integers(20, 500)), int(rng.integers(100, 3000)), rng.uniform(20, 95)
        error = 100 * math.sqrt(true / 100 * (1 - true / 100) / val_count)
        luck = math.sqrt(0.5) * (rng.normal(size=32).max() + rng.normal()) + math.sqrt(0.1) * rng.normal(size=10).max()
        val, test = min(100.0, true + error * luck), 100 * rng.binomial(test_count, true / 100) / test_count
        alarms += bool(unlike_remarks(retrained([val] * 5, [test] * 5, val_count, test_count)))
    assert alarms <= 10


def test_of_a_whole_run(tmp_path: Path) -> None:
    """A made-up run in which high learning rates fail: the line is that of its experiment file."""
    run = write_run(tmp_path / "run", ("birds",), (0.15, 1.0), methods=3, files=False)
    lines = run.experiment_file.read_text().splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if line.startswith("lr ="))
    found = [remark for remark in build_report(run).remarks if remark.startswith("trials fail where optim/lr")]
    assert [remark.split("; ")[1].startswith(f"line {number}: lr = {{low = 0.0001") for remark in found] == [True]
    assert read_space(run).searched["l2_sp/weight"]["of"] == "l2_sp"


def test_the_warning_comes_first(tmp_path: Path) -> None:
    """A report of models that are unlike their validation opens with the warning, before its answer, once."""
    run = write_run(tmp_path / "run", ("birds",), (1.0,), methods=2, files=False)
    for folder in run.study_folders():
        for path in folder.path.glob("retrain/seed*/result.json"):
            write_json(path, {**read_json(path), "test_score": 20.0}, durable=False)
    report = build_report(run)
    assert report.answer.lines[0].startswith("WARNING: validation is unlike test on birds 100 %")
    assert report.answer.lines[1].startswith("Take ")
    assert report.markdown().count("validation is unlike test") == 1
