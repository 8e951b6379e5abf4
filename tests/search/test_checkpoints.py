"""What is kept on the disk: the newest state of a running trial, the best weights of a study, and how much that is."""

import json
from pathlib import Path

import pytest

from cotuning_tune.base.files import write_bytes
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.run.folder import RunDir
from cotuning_tune.search.checks import check_studies, disk_line, keep_sizes
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.repair import repair
from cotuning_tune.search.selection import write_selections
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import Studies
from cotuning_tune.training import TrainingJob
from tests.search.conftest import call

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "l2_sp", "co_tuning"]
backbone = "tiny_cnn"
trials = 4
seeds = [0, 1]
sampler = "random"
[task]
size = 32
resize = 32
"""
CELL = "synthetic-1.00-l2_sp"


@pytest.fixture
def experiment() -> Experiment:
    return parse(TEXT, "kept")


def weights_in(run: RunDir) -> list[int]:
    """The trials of the study that have their best weights."""
    return sorted(int(path.parent.name) for path in run.study(CELL).path.glob("trials/*/best.pt"))


def test_the_best_trial_keeps_its_weights(tmp_path: Path, experiment: Experiment) -> None:
    """As trials end, the best one's weights stay, all others go; those of a running trial are left alone."""
    run = RunDir(tmp_path)
    studies = Studies(experiment, open_storage(run), run)
    study, recorder = studies.by_name[CELL], Recorder(run)
    kept = []
    for number in range(4):
        assert study.issue().number == number
        write_bytes(run.study(CELL).trial(number).best_weights, b"weights")
    for number, value in ((1, 50.0), (0, 70.0), (2, 60.0)):
        study.complete(number, value, 1.0)
        best = study.best()
        assert best is not None
        recorder.keep_best(CELL, number, best.number)
        kept.append(weights_in(run))
    assert kept == [[0, 1, 2, 3], [0, 2, 3], [0, 3]]
    study.fail(3, "not finite")
    recorder.keep_best(CELL, 3, 0)
    assert weights_in(run) == [0]


def test_a_new_driver_tidies_up(tmp_path: Path, experiment: Experiment) -> None:
    """What a driver killed between telling and deleting has left goes at the next start, and only that."""
    run = RunDir(tmp_path)
    study = Studies(experiment, open_storage(run), run).by_name[CELL]
    for number in range(3):
        study.issue()
        write_bytes(run.study(CELL).trial(number).best_weights, b"weights")
        write_bytes(run.study(CELL).trial(number).result, b"{}")
    study.complete(0, 50.0, 1.0)
    study.complete(1, 60.0, 1.0)
    assert repair(run, Studies(experiment, open_storage(run), run)) == []
    assert weights_in(run) == [1, 2]


def test_a_run_leaves_one_a_study(tiny_run: tuple[Path, str]) -> None:
    """After a whole run the chosen trial of each study has its weights; no state is left, and nobody's name."""
    run = RunDir(tiny_run[0])
    for study in run.study_folders():
        chosen = json.loads(study.selection.read_text())["trial"]
        assert [path.parent.name for path in study.path.glob("trials/*/best.pt")] == [f"{chosen:04d}"]
    assert not [
        path for path in run.studies_folder.rglob("*") if path.name in ("owner", "state.pt", "state.previous.pt")
    ]


@pytest.mark.parametrize("method", ["fine_tune", "l2_sp", "co_tuning"])
def test_sizes_are_those_of_the_files(tmp_path: Path, method: str) -> None:
    """What is measured before the first trial is what a training then writes, within a twentieth."""
    experiment = parse(TEXT.replace('"fine_tune", "l2_sp", "co_tuning"', f'"{method}"'), "measured")
    sizes, run = check_studies(experiment), RunDir(tmp_path)
    folder = run.study(f"synthetic-1.00-{method}").trial(0)
    TrainingJob(experiment.spec(experiment.studies[0], {}, 0), folder, keep_best=True).advance()
    assert folder.best_weights.stat().st_size == pytest.approx(sizes["weights"], rel=0.05)
    assert folder.state.stat().st_size == pytest.approx(sizes["state"], rel=0.05)


def test_the_disk_needed_is_added_up(tmp_path: Path, experiment: Experiment) -> None:
    """Two trials at a time with two states and weights twice; at the end a trial's weights and two models a study."""
    run = RunDir(tmp_path)
    assert "known when a driver has started" in disk_line(run, experiment)
    keep_sizes(run, {"state": 20 << 20, "weights": 10 << 20}, 2)
    write_bytes(run.study(CELL).trial(0).state, bytes(5 << 20))
    line = disk_line(run, experiment)
    assert line.startswith("checkpoints take 5.2 MB now, 220 MB at most while it runs, 94 MB at its end; ")
    assert line.endswith("B free")


def test_status_prints_it(tiny_run: tuple[Path, str]) -> None:
    """``status`` tells the disk needed."""
    shown = call("status", tiny_run[0])
    assert shown.returncode == 0, shown.stderr
    assert "at most while it runs" in shown.stdout


@pytest.mark.parametrize("ends", [False, True], ids=["all stopped early", "one of full length"])
def test_selection_says_what_it_looked_at(tmp_path: Path, experiment: Experiment, ends: bool) -> None:
    """A trial stopped early is chosen only where none ran to its end, and the rule that is written says so."""
    run = RunDir(tmp_path)
    studies = Studies(experiment, open_storage(run), run)
    study = studies.by_name[CELL]
    for number, value in enumerate((90.0, 80.0)):
        study.issue()
        study.report(number, [{"epoch": 1, "val_accuracy": value}, {"epoch": 2, "val_accuracy": value - 5}])
        study.prune(number, 1.0)
    if ends:
        study.issue()
        study.complete(2, 30.0, 1.0)
    write_selections(run, experiment, studies)
    chosen = json.loads(run.study(CELL).selection.read_text())
    assert (chosen["trial"], chosen["val_accuracy"]) == ((2, 30.0) if ends else (0, 90.0))
    assert chosen["rule"].startswith("no trial ran to its end") is not ends
    assert chosen["state"] == ("COMPLETE" if ends else "PRUNED")
