"""Data that change while a run goes on: each door refuses them with numbers, or keeps on record that they may."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.cluster.trainable import TrainingTrial
from cotuning_tune.experiment import Experiment, Study, parse
from cotuning_tune.export.bundle import Bundle
from cotuning_tune.export.chosen import find_winner
from cotuning_tune.export.write import export
from cotuning_tune.pipeline import Cluster, NewRun, Request, carry_out, extend
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import TrialConfig
from cotuning_tune.runs.snapshot import settle_data
from cotuning_tune.search.checks import check_studies, data_lines, snapshots
from cotuning_tune.training.job import forget_tasks

TEXT = """
[experiment]
tasks = ["pets"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 2
seeds = [0]
sampler = "random"
selection = "max"
[data.pets]
format = "image_folder"
root = "pets"
[task]
size = 16
resize = 16
[train]
epochs = 1
batch_size = 4
"""
STUDY = "pets-1.00-fine_tune"


@pytest.fixture
def pets(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Two classes of 5 training and 2 test images, no two alike."""
    for number, (split, name, count) in enumerate(
        [("train", "ant", 5), ("train", "bee", 5), ("test", "ant", 2), ("test", "bee", 2)]
    ):
        for image in range(count):
            write_image(tmp_path / "pets" / split / name / f"{image}.png", 10 * number + image)
    return tmp_path / "pets"


@pytest.fixture
def experiment(tmp_path: Path, pets: Path) -> Experiment:
    return parse(TEXT, "pets", tmp_path)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@contextmanager
def changed(pets: Path) -> Iterator[None]:
    """While inside, the classes' training images have changed places."""
    swap(pets / "train" / "ant", pets / "train" / "bee")
    try:
        yield
    finally:
        swap(pets / "train" / "ant", pets / "train" / "bee")


def test_each_door(experiment: Experiment, pets: Path, tmp_path: Path) -> None:
    """Between search and resume, extension, retraining, export: refused with the right numbers and nothing written.

    Accepted, the change stands in the report, and the model that was tested before is named.
    """
    two = Cluster(cpus=2)
    run = carry_out(
        Request(experiment=experiment, run=NewRun(storage=tmp_path / "runs"), retrain=False, cluster=two)
    ).run
    refused = r"train: 10 of another class \(train/ant/0.png, ...\): put them back"
    doors: dict[str, Callable[[], object]] = {
        "resume": lambda: carry_out(Request(experiment=experiment, run=run, cluster=two)),
        "retrain": lambda: carry_out(Request(experiment=experiment, run=run, search=False, cluster=two)),
        "run": lambda: carry_out(Request(experiment=experiment, run=NewRun(storage=tmp_path / "runs"), cluster=two)),
        "extend": lambda: extend(run, 2),
    }
    with changed(pets):
        for door in doors.values():
            with pytest.raises(UserError, match=refused):
                door()
    assert not run.ledger.exists()
    assert not run.budget.exists()

    carry_out(Request(experiment=experiment, run=run, cluster=two))
    winner = find_winner(run, STUDY)
    with changed(pets), pytest.raises(UserError, match=refused):
        export(winner, "safetensors", Bundle(tmp_path / "out"))
    export(winner, "safetensors", Bundle(tmp_path / "out"))
    assert read_json(tmp_path / "out" / "model.json")["classes"] == ["ant", "bee"]

    (pets / "test" / "bee" / "1.png").unlink()
    with pytest.raises(UserError, match=r"test: 1 gone \(test/bee/1.png\): put them back"):
        doors["resume"]()
    outcome = carry_out(Request(experiment=experiment, run=run, cluster=two, accept_data_change=True))
    assert outcome.report is not None
    warnings = [remark for remark in outcome.report.remarks if remark.startswith("WARNING")]
    assert any("which was accepted on" in line and "test: 1 gone (test/bee/1.png)" in line for line in warnings)
    assert any("seed0/result.json was tested on other images than those in data.json" in line for line in warnings)


def test_duplicates_at_each_treatment(pets: Path, tmp_path: Path) -> None:
    """A test image in training is refused before anything runs; left out or kept, run and report tell it."""
    shutil.copy(pets / "test" / "ant" / "0.png", pets / "train" / "ant" / "9.png")
    text = TEXT.replace("[task]", '[task]\nduplicates = "{}"')
    found = "pets: 1 training image has the same bytes as a test image: train/ant/9.png = test/ant/0.png"
    experiments = {which: parse(text.format(which), which, tmp_path) for which in ("auto", "drop", "keep")}
    with pytest.raises(UserError, match=f'{found}; set task.duplicates = "drop"'):
        check_studies(experiments["auto"])
    check_studies(experiments["drop"])
    assert data_lines(experiments["drop"]) == [f"{found}: left out of training"]
    notes = {which: snapshots(experiments[which])["pets"].notes for which in ("drop", "keep")}
    assert notes["drop"] == (f"{found}: left out of training",)
    assert notes["keep"][0].startswith(f"WARNING: {found}: kept")


def issued(experiment: Experiment, run: RunDir, crops: str) -> TrialConfig:
    """What the worker of one training is given."""
    folder = run.study(STUDY).retrain(0) if crops else run.study(STUDY).trial(0)
    spec = experiment.spec(Study("pets", 1.0, "fine_tune"), {}, 0).to_json()
    number = run.raise_incarnation()
    given = {"specs": [spec], "folder": str(folder.path), "run": str(run.path), "incarnation": number}
    return {**given, "threads": 1, "crops": crops, "state_every": 0.0, "each": True}  # type: ignore[typeddict-item, return-value]


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> RunDir:
    """A run whose first trial is handed out."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.experiment_file.write_text(TEXT)
    settle_data(run, snapshots(experiment), accept=False)
    run.studies_folder.mkdir()
    return run


@pytest.mark.parametrize("crops", ["", "centre"])
def test_a_worker_that_has_other_data(experiment: Experiment, run: RunDir, pets: Path, crops: str) -> None:
    """It trains nothing, and says what it has: a trial is not failed by it, the driver ends."""
    trial = TrainingTrial(dict(issued(experiment, run, crops)))
    with changed(pets):
        forget_tasks()
        report = trial.step()
    forget_tasks()
    assert "train: 10 of another class" in report["changed"]
    assert (report["done"], report["failed"], report["history"]) == (True, "", [])


def test_a_test_split_that_has_changed_is_not_tested(experiment: Experiment, run: RunDir, pets: Path) -> None:
    """Seen by the worker at the last moment: before the model looks at it."""
    trial = TrainingTrial(dict(issued(experiment, run, "centre")))
    while not (report := trial.step())["ready"]:
        assert not report["done"]
    shutil.copy(pets / "test" / "bee" / "1.png", pets / "test" / "ant" / "1.png")
    report = trial.step()
    assert "test: 1 with another content (test/ant/1.png)" in report["changed"]
    assert report["tested"] == []
    assert not run.study(STUDY).retrain(0).predictions.exists()


def test_a_state_of_other_data_is_not_gone_on_with(
    experiment: Experiment, run: RunDir, pets: Path, tmp_path: Path
) -> None:
    """A training without a run knows by its own state that the data have changed, and starts again."""
    from cotuning_tune.runs.folder import TrialDir
    from cotuning_tune.training import TrainingJob

    spec, folder = experiment.spec(Study("pets", 1.0, "fine_tune"), {}, 0), TrialDir(tmp_path / "alone")
    TrainingJob(spec, folder).advance()
    forget_tasks()
    assert TrainingJob(spec, folder).finished
    with changed(pets):
        forget_tasks()
        again = TrainingJob(spec, folder)
        assert not again.finished
        assert again.notices[0] == f"{folder.state} belongs to another configuration or to other data: not used"
    forget_tasks()
