"""What a run used and its figures do not show is told: the direct approach of co-tuning."""

from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.report import build_report
from cotuning_tune.report.caveats import direct_remarks
from cotuning_tune.report.results import StudyResult
from tests.report.synthetic import write_run

FLATTERS = "co_tuning approach = direct reads the labels of the validation split: its validation accuracy flatters it"


def study(chosen: str, tried: tuple[str, ...] = (), method: str = "co_tuning") -> StudyResult:
    """A study that chose an approach, pinned or tried among others."""
    trials: list[dict[str, Any]] = [{"state": "COMPLETE", "values": {f"{method}/approach": one}} for one in tried]
    trials.append({"state": "COMPLETE", "values": {}})
    return StudyResult("birds", 1.0, method, 1, False, trials, {"spec": {"method_config": {"approach": chosen}}}, [])


@pytest.mark.parametrize(
    ("studies", "expected"),
    [
        ([study("reverse")], []),
        ([study("direct")], [f"{FLATTERS}."]),
        ([study("direct", method="other")], []),
        ([study("reverse", ("direct",))], [f"{FLATTERS}."]),
        (
            [study("reverse", ("direct", "reverse")), study("direct", ("direct", "reverse"))],
            [f"{FLATTERS}; that favours it where both approaches are searched (1 of 2 studies chose it)."],
        ),
    ],
    ids=["reverse", "pinned", "another method's", "tried", "searched"],
)
def test_the_direct_approach_is_told(studies: list[StudyResult], expected: list[str]) -> None:
    """Pinned, chosen or tried; where both were searched, how often it was chosen."""
    assert direct_remarks(studies) == expected


def test_the_report_tells_of_it(tmp_path: Path) -> None:
    """It is read from the selections; a run with the default approach has no such remark."""
    run = write_run(tmp_path / "run", ("birds",), (1.0,), methods=5, trials=4, epochs=2)
    assert not any("approach" in remark for remark in build_report(run).remarks)
    path = run.study("birds-1.00-co_tuning").selection
    chosen = read_json(path)
    chosen["spec"]["method_config"]["approach"] = "direct"
    write_json(path, chosen)
    assert f"{FLATTERS}." in build_report(run).remarks
