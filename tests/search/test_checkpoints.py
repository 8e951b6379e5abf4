"""What is kept on the disk: the states of running trainings, the retrained models, and how much that is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cotuning_tune.base.files import write_bytes
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.checks import check_studies, disk_line, keep_sizes
from cotuning_tune.search.selection import write_selections
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import Studies
from cotuning_tune.training import TrainingJob
from cotuning_tune.training.state import packed
from tests.search.conftest import call
from tests.search.ends import complete, prune

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


def test_a_run_leaves_no_weights_of_trials(tiny_run: tuple[Path, str]) -> None:
    """After a whole run only the retrained models are kept; no state is left, and nobody's name."""
    run = RunDir(tiny_run[0])
    ends = {path.suffix for path in run.studies_folder.glob("*/trials/**/*") if path.is_file()}
    assert ends == {".json", ".jsonl"}
    assert len(list(run.studies_folder.glob("*/retrain/*/model.safetensors"))) == 9
    assert not [
        path for path in run.studies_folder.rglob("*") if path.name in ("owner", "state.pt", "state.previous.pt")
    ]


@pytest.mark.parametrize("method", ["fine_tune", "l2_sp", "co_tuning"])
def test_sizes_are_those_of_the_files(tmp_path: Path, method: str) -> None:
    """What is measured before the first trial is what a training then writes, within a twentieth."""
    experiment = parse(TEXT.replace('"fine_tune", "l2_sp", "co_tuning"', f'"{method}"'), "measured")
    sizes, run = check_studies(experiment), RunDir(tmp_path)
    folder = run.study(f"synthetic-1.00-{method}").trial(0)
    spec = experiment.spec(experiment.studies[0], {}, 0)
    job = TrainingJob(replace(spec, train=spec.train | {"epochs": 1}), folder, keep_best=True)
    job.advance()
    assert len(packed(job.trainer.network.state_dict())) == pytest.approx(sizes["weights"], rel=0.05)
    assert folder.state.stat().st_size == pytest.approx(sizes["state"], rel=0.05)


def test_the_disk_needed_is_added_up(tmp_path: Path, experiment: Experiment) -> None:
    """Two trainings at a time with two states and weights twice; at the end two models per study."""
    run = RunDir(tmp_path)
    assert "known when a driver has started" in disk_line(run, experiment)
    keep_sizes(run, {"state": 20 << 20, "weights": 10 << 20}, 2)
    write_bytes(run.study(CELL).trial(0).state, bytes(5 << 20))
    line = disk_line(run, experiment)
    assert line.startswith("checkpoints take 5.2 MB now, 189 MB at most while it runs, 63 MB at its end; ")
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
        study.report(number, [{"epoch": 1, "val_score": value}, {"epoch": 2, "val_score": value - 5}])
        prune(study, number, accuracy=value, seconds=1.0)
    if ends:
        study.issue()
        complete(study, 2, 30.0, seconds=1.0)
    write_selections(run, experiment, studies)
    chosen = json.loads(run.study(CELL).selection.read_text())
    assert (chosen["trial"], chosen["val_score"]) == ((2, 30.0) if ends else (0, 90.0))
    assert chosen["rule"].startswith("no trial ran to its end") is not ends
    assert chosen["state"] == ("COMPLETE" if ends else "PRUNED")
