"""Published figures stand beside own ones where all but the protocol is the same, and each protocol is named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import write_json
from cotuning_tune.report import build_report, write_report
from cotuning_tune.report.published import LIBRARY, PAPER, RATES, published_remarks, published_table
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.scores import METRICS


def study(method: str = "bss", rate: float = 0.15, accuracies: tuple[float, ...] = (50.0, 52.0)) -> StudyResult:
    seeds = [{"seed": n, "state": "COMPLETE", "test_score": a, "seconds": 1.0} for n, a in enumerate(accuracies)]
    return StudyResult("birds", rate, method, 2, [], None, seeds)


def tables(format: str = "cub200", **experiment: str) -> dict[str, Any]:
    """An experiment file's tables that match the paper; keywords change its [experiment]."""
    given = {"backbone": "resnet50", "weights": "IMAGENET1K_V1", "test_crops": "ten", "retrain_on": "trainval"}
    return {"experiment": given | experiment, "data": {"birds": {"format": format, "root": "x"}}}


def test_the_difference_by_hand() -> None:
    """Own 51 against 47.74 and 53.4 published is +3.26 and -2.40; a method that nobody published has no row."""
    table = published_table(tables(), [study(), study("spd")])
    assert table is not None
    assert table.header == ["method", "study", "own", "paper", "own - paper", "library", "own - library"]
    assert table.rows == [["bss", "birds 15 %", "51.00", "47.74", "+3.26", "53.40", "-2.40"]]


def test_not_retrained_yet() -> None:
    """Without an own result the settings of own figure and difference are empty, the published one stands."""
    table = published_table(tables(), [study(accuracies=())])
    assert table is not None
    assert table.rows == [["bss", "birds 15 %", "-", "47.74", "-", "53.40", "-"]]


def test_a_source_without_this_method_has_a_dash() -> None:
    """L2-SP stands in the paper alone: the other source has no column until another method needs it."""
    alone = published_table(tables(), [study("l2_sp")])
    both = published_table(tables(), [study("l2_sp"), study("lwf")])
    assert alone is not None
    assert both is not None
    assert alone.header[3:] == ["paper", "own - paper"]
    assert both.rows == [
        ["l2_sp", "birds 15 %", "51.00", "45.08", "+5.92", "-", "-"],
        ["lwf", "birds 15 %", "51.00", "-", "-", "56.70", "-5.70"],
    ]


@pytest.mark.parametrize(
    ("tables_", "own"),
    [
        (tables(format="image_folder"), study()),
        (tables(backbone="resnet101"), study()),
        (tables(), study(rate=0.2)),
        (tables(), study("spd")),
    ],
    ids=["format", "backbone", "rate", "method"],
)
def test_nothing_matches(tables_: dict[str, Any], own: StudyResult) -> None:
    """Another data set, backbone, rate or method: there is neither a table nor a remark."""
    assert published_table(tables_, [own]) is None
    assert published_remarks(tables_, [own]) == []


def test_a_task_named_after_its_data_set() -> None:
    """Without [data.NAME] the task's name is the format."""
    own = StudyResult("cub200", 1.0, "co_tuning", 2, [], None, [])
    table = published_table({"experiment": {"backbone": "resnet50"}}, [own])
    assert table is not None
    assert table.rows[0][3] == "81.24"


def test_protocols_are_named_and_differences_warned_of() -> None:
    """Every source's protocol stands in the note; other crops, other weights and a choice by test are warnings."""
    table = published_table(tables(), [study()])
    assert table is not None
    assert [source.protocol for source in (PAPER, LIBRARY) if source.protocol not in table.note] == []
    same = published_remarks(tables(), [study("l2_sp")])
    assert same == []
    (fewer,) = published_remarks(tables(retrain_on="train"), [study("l2_sp")])
    assert fewer.endswith("own without the validation images: --retrain-on trainval.")
    centre = published_remarks(tables(test_crops="centre", weights=""), [study("l2_sp")])
    assert [("ten crops" in line, "IMAGENET1K_V1" in line) for line in centre] == [(True, False), (False, True)]
    library = published_remarks(tables(), [study("lwf")])
    assert ["centre crop" in line or "TEST" in line or "test split" in line for line in library] == [True, True]
    assert all(line.startswith("WARNING") for line in [*centre, *library])


def test_every_figure_is_a_percentage_for_each_rate() -> None:
    """Each source has for each method one value a rate, between 0 and 100, that grows with the rate."""
    for source in (PAPER, LIBRARY):
        for methods in source.figures.values():
            for values in methods.values():
                assert len(values) == len(RATES)
                assert 0 < values[0] < values[1] < values[2] < values[3] < 100


def test_the_report_shows_them(tmp_path: Path) -> None:
    """A run of CUB-200 with ResNet-50 has the table in its report and as a CSV file, read from files alone."""
    run = RunDir(tmp_path / "cub")
    write_json(run.environment, {"gpus": []})
    run.experiment_file.write_text(
        '[experiment]\ntasks = ["birds"]\nmethods = ["bss"]\nbackbone = "resnet50"\n[data.birds]\nformat = "cub200"\n'
    )
    folder, key = run.study("birds-0.15-bss"), {"task": "birds", "rate": 0.15, "method": "bss"}
    write_json(folder.summary, {**key, "budget": 1, "trials": []})
    assert "published" in [table.name for table in build_report(run).tables]
    write_report(run)
    assert (run.report / "published.csv").read_text().splitlines()[1] == "bss,birds 15 %,-,47.74,-,53.40,-"


def test_named_entities_have_their_own_source() -> None:
    """F1 beside F1, of BERT by name or in a folder of its name; of other rates and methods there is none."""
    asked = tables("conll2003", backbone="hf//models/bert-base-cased", weights="", test_crops="centre")
    mine = replace(study("co_tuning", 1.0, (90.0, 91.0)), metric=METRICS["entity_f1"], examples="sentences")
    table = published_table(asked, [mine, replace(mine, rate=0.15), replace(mine, method="bss")])
    assert table is not None
    assert table.rows == [["co_tuning", "birds 100 %", "90.50", "91.27", "-0.77"]]
    assert table.note.startswith("Test entity F1 in percent.")
    assert published_remarks(asked, [mine]) == []
