"""The short form of ``make calibration``: the report's error rates over made-up runs lie within their bounds."""

import json
from pathlib import Path

import pytest

from benchmarks.calibration import PAGE, RESULTS, Row, calibrate, flat, main, parts
from benchmarks.calibration_claims import ClaimPart, compare_seeds
from benchmarks.calibration_page import page
from benchmarks.calibration_runs import World

REPORTS = 300


def slack(bound: float, reports: int) -> float:
    """Two standard errors of a share at its bound."""
    return 2 * (bound * (1 - bound) / reports) ** 0.5


def outside(rows: list[Row], measure: str, low: float, high: float) -> list[str]:
    """The rows whose figure lies outside the bounds and their slack."""
    found = []
    for row in (row for row in rows if measure in row.figures):
        mean, reports = row.figures[measure].mean, row.figures[measure].reports
        if not low - slack(low, reports) <= mean <= high + slack(high, reports):
            found.append(f"{row.name}: {mean:.3f} of {reports}")
    return found


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Every claim and world, some hundred reports each."""
    return calibrate([part for part in parts() if part.name.startswith("claim")], REPORTS)


def of_parts(rows: list[Row], flag: str) -> list[Row]:
    """The rows of which the bounds of ``flag`` are asked."""
    asked = {part.name for part in parts() if getattr(part, flag, False)}
    return [row for row in rows if row.name in asked]


def test_false_verdicts(rows: list[Row]) -> None:
    """At most 6 % of reports say better or worse of a method that does not differ."""
    assert outside(of_parts(rows, "bounded"), "false_verdict", 0.0, 0.06) == []


def test_intervals(rows: list[Row]) -> None:
    """All intervals of a report hold in 93 to 97 %; with one noisy method they may hold more often."""
    assert outside(of_parts(rows, "exact"), "coverage", 0.93, 0.97) == []
    assert outside(of_parts(rows, "bounded"), "coverage", 0.93, 1.0) == []


def test_the_set_of_possible_bests(rows: list[Row]) -> None:
    """It holds the best in 94 % or more, and becomes smaller where more can be known."""
    assert outside(of_parts(rows, "bounded"), "set_holds_best", 0.94, 1.0) == []
    sizes = {row.name: row.figures["set_size"].mean for row in rows if "set_size" in row.figures}
    assert sizes["claim4_12datasets_plus2"] < 1.2 < 3 < sizes["claim4_2datasets_plus2"]


def test_power(rows: list[Row]) -> None:
    """What can be found is found: two points over four data sets in three reports of four, over six in nine of ten."""
    found = flat(rows)["power"]
    for units, least in ((2, 0.27), (4, 0.77), (6, 0.93)):
        assert found[f"claim4_{units}datasets_plus2"] > least - slack(least, REPORTS)
    assert found["claim4_6datasets_noisy_rival_x5_plus2"] > 0.75


def test_one_data_set_searched_once_is_never_judged(rows: list[Row]) -> None:
    """No verdict, no intervals, whatever the rates and seeds."""
    (row,) = [row for row in rows if row.name == "claim4_1datasets_4rates_8seeds"]
    assert {measure: figure.mean for measure, figure in row.figures.items()} == {"false_verdict": 0.0}


def test_files_change_nothing(rows: list[Row]) -> None:
    """The tables of ``build_report`` over files are those of the same results in memory."""
    differ = flat(rows)["files_differ"]
    assert set(differ.values()) == {0.0}
    assert len(differ) == 2


def test_seeds_as_units_are_caught() -> None:
    """A report that took every seed for a unit, as reports once did, is far outside the bounds."""
    wrong = calibrate([ClaimPart("wrong", "seeds as units", World(), judge=compare_seeds)], REPORTS)
    assert outside(wrong, "false_verdict", 0.0, 0.06)
    assert outside(wrong, "coverage", 0.93, 0.97)
    assert outside(wrong, "set_holds_best", 0.94, 1.0)


def test_figures_repeat() -> None:
    """Two processes count what one counts."""
    chosen = [part for part in parts() if part.name in ("claim4_4datasets", "claim3_4searches_plus1")]
    assert calibrate(chosen, 60, processes=2) == calibrate(chosen, 60)


def test_flat_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measure: part: figure, alone on the terminal or in a file; a part of the calibration keeps nothing."""
    kept = RESULTS.read_bytes()
    main(["--short", "--only", "claim4_4datasets_own", "--processes", "1", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert 0 <= shown["false_verdict"]["claim4_4datasets_own_effects"] <= 0.1
    assert shown["standard_error"]["coverage/claim4_4datasets_own_effects"] > 0
    main(["--short", "--only", "claim4_4datasets_own", "--processes", "1", "--json", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text()) == shown
    assert "own effects" in capsys.readouterr().out
    assert RESULTS.read_bytes() == kept


def test_the_page_is_that_of_the_figures() -> None:
    """docs/calibration.md is written from the kept figures, of all parts that there are."""
    found = json.loads(RESULTS.read_text())
    assert PAGE.read_text() == page(found)
    assert [row["name"] for row in found["rows"]] == [part.name for part in parts()]
