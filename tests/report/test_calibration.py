"""The short form of ``make calibration``: the report's error rates over made-up runs lie within their bounds."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration import PAGE, RESULTS, Row, calibrate, flat, main, parts
from benchmarks.calibration_claims import ClaimPart, compare_seeds, compare_settings
from benchmarks.calibration_models import ImagesPart
from benchmarks.calibration_page import page
from benchmarks.calibration_runs import World
from cotuning_tune.report.models import example_claim

REPORTS = 250


def slack(bound: float, reports: int, errors: float = 2.0) -> float:
    """So many standard errors of a share at its bound."""
    return errors * (bound * (1 - bound) / reports) ** 0.5


def outside(rows: list[Row], measure: str, low: float, high: float) -> list[str]:
    """Rows that lie outside the bounds by more than four standard errors, sections whose mean does by more than two.

    Among a hundred right rows chance puts two or three outside by two.
    """
    there = [(row, row.figures[measure]) for row in rows if measure in row.figures]
    shares = {row.name: (figure.mean, figure.reports, 4.0) for row, figure in there}
    for section in {row.section for row, _ in there}:
        figures = [figure for row, figure in there if row.section == section]
        every = sum(figure.reports for figure in figures)
        shares[section] = sum(figure.mean * figure.reports for figure in figures) / every, every, 2.0
    return [
        f"{name}: {share:.3f} of {reports}"
        for name, (share, reports, errors) in shares.items()
        if not low - slack(low, reports, errors) <= share <= high + slack(high, reports, errors)
    ]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Every row of the calibration, some hundred reports each."""
    return calibrate(parts(), REPORTS)


def of_parts(rows: list[Row], flag: str) -> list[Row]:
    """The rows of which the bounds of ``flag`` are asked."""
    asked = {part.name for part in parts() if getattr(part, flag, False)}
    return [row for row in rows if row.name in asked]


def test_false_verdicts(rows: list[Row]) -> None:
    """At most 6 % of reports say that a method, model or configuration differs from the baseline where it does not."""
    assert outside(of_parts(rows, "bounded"), "false_verdict", 0.0, 0.06) == []
    assert outside(rows, "false_verdict_highest", 0.0, 0.06) == []


def test_alarms(rows: list[Row]) -> None:
    """The diagnostics have a finding in at most 5 % of searches in which nothing is wrong, and see planted faults."""
    assert outside(rows, "alarms", 0.0, 0.05) == []
    found = flat(rows)["power"]
    for name in ("edge_1dataset_32trials", "edge_4datasets_32trials", "diverging_1dataset_32trials"):
        assert found[name] > 0.7
    assert found["unlike20_1dataset_8trials"] > 0.9


def test_intervals(rows: list[Row]) -> None:
    """All intervals of a report hold in 93 to 97 %; over few units or with a noisy method they may hold more often."""
    assert outside(of_parts(rows, "exact"), "coverage", 0.93, 0.97) == []
    assert outside(of_parts(rows, "bounded"), "coverage", 0.93, 1.0) == []


def test_the_set_of_possible_bests(rows: list[Row]) -> None:
    """It holds the best in 94 % or more, and becomes smaller where more can be known."""
    assert outside(of_parts(rows, "bounded"), "best_in_set", 0.94, 1.0) == []
    sizes = {row.name: row.figures["set_size"].mean for row in rows if "set_size" in row.figures}
    assert sizes["claim4_12datasets_plus2"] < 1.2 < 3 < sizes["claim4_2datasets_plus2"]


def test_power(rows: list[Row]) -> None:
    """What can be found is found: two points over four data sets in half of the reports, over six in nine of ten."""
    found = flat(rows)["power"]
    for units, least in ((2, 0.04), (4, 0.57), (6, 0.89)):
        assert found[f"claim4_{units}datasets_plus2"] > least - slack(least, REPORTS)
    assert found["claim4_6datasets_noisy_rival_x5_plus2"] > 0.75


def test_small_searches_decide(rows: list[Row]) -> None:
    """Eight searches of four trials find three points; one search is silent, and its seeds would mislead."""
    found = flat(rows)
    assert found["power"]["aim_8searches_4trials_1000images_plus3"] > 0.85
    assert found["power"]["aim_8searches_4trials_200images_plus3"] > 0.4
    assert found["misread"]["aim_1search_32trials_200images"] > 0.5


def test_regret(rows: list[Row]) -> None:
    """Looking twice costs fewer points than looking once, on every surface; three splits for every trial cost least."""
    found = flat(rows)["regret"]
    for kind in ("hill", "rough", "cliff"):
        for trials in (8, 32):
            once, twice, thrice = (found[f"{kind}_200images_{trials}trials_{r}"] for r in ("max", "confirm", "3splits"))
            assert thrice < twice < once < 2.2


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
    assert outside(wrong, "best_in_set", 0.94, 1.0)


def test_settings_as_units_are_caught() -> None:
    """So is one that took the rates of a data set for units, where methods suit data sets."""
    world = World(3, rates=4, own=0.7)
    assert not outside(calibrate([ClaimPart("right", "", world)], REPORTS), "false_verdict", 0.0, 0.06)
    wrong = calibrate([ClaimPart("wrong", "settings as units", world, judge=compare_settings)], REPORTS)
    assert outside(wrong, "false_verdict", 0.0, 0.06)
    assert outside(wrong, "coverage", 0.93, 0.97)
    assert outside(wrong, "best_in_set", 0.94, 1.0)


def test_images_of_seeds_as_units_are_caught() -> None:
    """One that took an image three times, once for each seed, finds differences between equal models too often."""
    part, rng, wrong = ImagesPart("wrong", "", 500), np.random.default_rng(1), 0
    for _ in range(REPORTS):
        models = part.models(rng)
        right = {m: np.concatenate([s.predicted_N == s.labels_N for s in one.seeds]) for m, one in models.items()}
        wrong += any(p <= 0.05 for p in example_claim({m: one.astype(float) for m, one in right.items()}).p.values())
    assert wrong / REPORTS > 0.06 + slack(0.06, REPORTS)


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
