"""What a run used and its figures do not show is told: random weights, the direct approach of co-tuning."""

from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.experiment import read_experiment
from cotuning_tune.report import build_report
from cotuning_tune.report.caveats import backbone_remarks, data_remarks, direct_remarks, overlap_remarks
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs.snapshot import Snapshot, read_record, settle_data
from cotuning_tune.search.driver import create_run
from tests.report.synthetic import write_run

FLATTERS = "co_tuning approach = direct reads the labels of the validation split: its validation score flatters it"

SEARCHED = f"{FLATTERS}; that favours it where both approaches are searched"
RANDOM = "Backbone: net, every training from the same random weights: nothing learned before is transferred."
NO_CLASSES = "The source head is random and knows no classes"


def study(chosen: str, tried: tuple[str, ...] = (), name: str = "co_tuning", kind: str = "") -> StudyResult:
    """A study that chose an approach, pinned or tried among others."""
    key = "co_tuning/approach" if "+" in (kind or name) else "approach"
    trials: list[dict[str, Any]] = [{"state": "COMPLETE", "values": {f"{name}/{key}": one}} for one in tried]
    trials.append({"state": "COMPLETE", "values": {}})
    spec = {"method": kind or name, "method_config": {key: chosen}}
    return StudyResult("birds", 1.0, name, 1, trials, {"spec": spec}, [])


@pytest.mark.parametrize(
    ("studies", "expected"),
    [
        ([study("reverse")], []),
        ([study("direct")], [f"{FLATTERS}."]),
        ([study("direct", name="other")], []),
        ([study("direct", name="bss+co_tuning")], [f"{FLATTERS}."]),
        ([study("reverse", ("direct", "reverse"), "mine", "co_tuning")], [f"{SEARCHED} (0 of 1 studies chose it)."]),
        ([study("reverse", ("direct",))], [f"{FLATTERS}."]),
        (
            [study("reverse", ("direct", "reverse")), study("direct", ("direct", "reverse"))],
            [f"{SEARCHED} (1 of 2 studies chose it)."],
        ),
    ],
    ids=["reverse", "pinned", "another method's", "combined", "a variant", "tried", "searched"],
)
def test_the_direct_approach_is_told(studies: list[StudyResult], expected: list[str]) -> None:
    """Pinned, chosen or tried; where both were searched, how often it was chosen."""
    assert direct_remarks(studies) == expected


@pytest.mark.parametrize(
    ("weights", "source", "expected"),
    [
        ({}, {}, ["Backbone: net, every training from its pre-trained weights."]),
        (
            {},
            {"random": False, "head_used_by": ["lwf"]},
            ["Backbone: net, every training from its pre-trained weights."],
        ),
        ({"weights": "/data/my.pth"}, {}, ["Backbone: net, every training from the weights of my.pth."]),
        ({"weights": "random"}, {}, [RANDOM]),
        ({}, {"random": True, "head_used_by": []}, [RANDOM]),
        (
            {"weights": "random"},
            {"random": True, "head_used_by": ["co_tuning"]},
            [RANDOM, f"{NO_CLASSES}: co_tuning cannot show here what it is made for."],
        ),
        (
            {},
            {"random": True, "head_used_by": ["co_tuning", "lwf"]},
            [RANDOM, f"{NO_CLASSES}: co_tuning and lwf cannot show here what they are made for."],
        ),
    ],
)
def test_what_training_began_with_is_told(weights: dict[str, str], source: dict[str, Any], expected: list[str]) -> None:
    """Published, a file's, or random, as the run recorded it; an older run without a record as it was asked for."""
    environment = {"source": source} if source else {}
    assert backbone_remarks({"backbone": "net", **weights}, environment) == expected


@pytest.mark.parametrize(
    ("backbone", "source"),
    [
        ('"tiny_cnn"', {"random": True, "head_used_by": ["co_tuning", "lwf"]}),
        ('"mnasnet0_5"\nweights = "random"', {"random": True, "head_used_by": ["co_tuning", "lwf"]}),
    ],
)
def test_a_run_records_what_training_begins_with(tmp_path: Path, backbone: str, source: dict[str, Any]) -> None:
    """A new run's env.json says whether the weights are random, and which of its methods use the source head."""
    path = tmp_path / "mine.toml"
    asked = 'tasks = ["synthetic"]\nmethods = ["bss", "co_tuning", "lwf"]\nbackbone = '
    path.write_text(f"[experiment]\n{asked}{backbone}\n")
    run = create_run(read_experiment(path), tmp_path / "runs", [])
    assert read_json(run.environment)["source"] == source


DOGS = "Stanford Dogs was built from images of ImageNet, its test split too"


@pytest.mark.parametrize(
    ("weights", "source", "told"),
    [({}, {"random": False}, True), ({}, {}, True), ({}, {"random": True}, False), ({"weights": "random"}, {}, False)],
)
def test_images_that_the_weights_have_seen(weights: dict[str, str], source: dict[str, Any], told: bool) -> None:
    """A data set that overlaps with ImageNet is a warning where training begins with pre-trained weights."""
    remarks = overlap_remarks({"backbone": "net", **weights}, {"source": source, "overlaps": {"dogs": DOGS}})
    assert [remark.partition(": weights")[0] for remark in remarks] == ([f"WARNING: dogs: {DOGS}"] if told else [])
    assert overlap_remarks({"backbone": "net"}, {"source": {"random": False}}) == []


def test_a_run_records_such_overlaps(tmp_path: Path) -> None:
    """By task, from the data set's class; nothing of a set that is not known to overlap."""
    path = tmp_path / "mine.toml"
    text = '[experiment]\ntasks = ["pets", "synthetic"]\nmethods = ["bss"]\nbackbone = "tiny_cnn"\n'
    path.write_text(text + '[data.pets]\nformat = "stanford_dogs"\n')
    assert read_json(create_run(read_experiment(path), tmp_path / "runs", []).environment)["overlaps"] == {"pets": DOGS}
    path.write_text(text.replace('"pets", ', ""))
    assert "overlaps" not in read_json(create_run(read_experiment(path), tmp_path / "other", []).environment)


def test_what_splits_have_in_common_is_told(tmp_path: Path) -> None:
    """The notes that a run has recorded of its data stand in the report; a warning comes first."""
    note = "WARNING: birds: 2 training images have the same bytes as test images: a = b, ...: kept"
    run = write_run(tmp_path / "run", ("birds",), (1.0,), methods=2, trials=4, epochs=2)
    settle_data(run, {"birds": Snapshot(("a", "b"), "rules 1", {}, (note,))}, accept=False)
    assert data_remarks(read_record(run)) == [f"{note}."]
    assert build_report(run).remarks[0] == f"{note}."


def test_published_weights_are_recorded_as_such(tmp_path: Path) -> None:
    """A backbone with its published weights is not random."""
    path = tmp_path / "mine.toml"
    path.write_text('[experiment]\ntasks = ["synthetic"]\nmethods = ["bss"]\nbackbone = "efficientnet_lite0"\n')
    run = create_run(read_experiment(path), tmp_path / "runs", [])
    assert read_json(run.environment)["source"] == {"random": False, "head_used_by": []}


def test_the_report_tells_of_it(tmp_path: Path) -> None:
    """It is read from the selections; a run with the default approach has no such remark."""
    run = write_run(tmp_path / "run", ("birds",), (1.0,), methods=5, trials=4, epochs=2)
    assert not any("approach" in remark for remark in build_report(run).remarks)
    path = run.study("birds-1.00-co_tuning").selection
    chosen = read_json(path)
    chosen["spec"]["method_config"]["approach"] = "direct"
    write_json(path, chosen)
    assert f"{FLATTERS}." in build_report(run).remarks
