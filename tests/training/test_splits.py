"""One configuration on several validation splits: judged by their mean, resumed anywhere to the same bits."""

from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotuning_tune.experiment import Experiment, Study, parse
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob, TrainingSpec
from cotuning_tune.training.job import task_of
from cotuning_tune.training.splits import SplitJobs, method_share
from cotuning_tune.training.state import remove_states

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["l2_sp"]
backbone = "tiny_cnn"
val_splits = 2
[task]
size = 16
resize = 16
[data.synthetic]
classes = 3
images = 20
[train]
epochs = 3
batch_size = 16
epoch = "{epoch}"
"""
STUDY = Study("synthetic", 1.0, "l2_sp")


def specs_of(epoch: str = "last") -> list[TrainingSpec]:
    experiment: Experiment = parse(TEXT.format(epoch=epoch), "split")
    return [experiment.spec(STUDY, {"optim/lr": 0.01}, 0, split) for split in (0, 1)]


def without_clock(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in ("seconds", "time")} for row in history]


def trained(jobs: SplitJobs | TrainingJob) -> SplitJobs | TrainingJob:
    while not jobs.finished:
        jobs.advance()
    return jobs


def test_one_after_the_other(tmp_path):
    """The rows are those of each split's own training, numbered through; the second has a folder of its own."""
    specs, folder = specs_of(), TrialDir(tmp_path)
    jobs = SplitJobs(specs, folder)
    assert (jobs.epochs, jobs.history, jobs.finished) == (6, [], False)
    assert jobs.kept[0] != jobs.kept[0]
    trained(jobs)
    alone = [trained(TrainingJob(spec)) for spec in specs]
    rows = [row for job in alone for row in without_clock(job.history)]
    assert without_clock(jobs.history) == [{**row, "epoch": number} for number, row in enumerate(rows, 1)]
    assert rows[:3] != rows[3:]
    assert (folder.state.exists(), folder.split(1).state.exists()) == (True, True)
    assert folder.split(1).path.parent == folder.path
    remove_states(folder)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("epoch", ["last", "best"])
def test_judged_by_the_mean(tmp_path, epoch):
    """Accuracy and loss are the means over the splits of the epochs that their trainings keep, so far."""
    specs = specs_of(epoch)
    jobs, alone = SplitJobs(specs, TrialDir(tmp_path)), [trained(TrainingJob(spec)).kept for spec in specs]
    for _ in range(3):
        jobs.advance()
    assert jobs.kept == (alone[0]["val_score"], alone[0]["val_loss"])
    trained(jobs)
    assert jobs.kept == tuple(fmean(row[key] for row in alone) for key in ("val_score", "val_loss"))


@pytest.mark.parametrize("stops", [[2], [3], [4], [5], [1, 2, 3, 4, 5]], ids=str)
def test_resumed_on_either_split(tmp_path, stops):
    """Taken up from its folder, on the first split, between both or in the second, it ends at the same rows."""
    specs = specs_of()
    whole = trained(SplitJobs(specs, TrialDir(tmp_path / "whole")))
    jobs = SplitJobs(specs, TrialDir(tmp_path / "parts"))
    while not jobs.finished:
        jobs.advance()
        if len(jobs.history) in stops:
            jobs = SplitJobs(specs, TrialDir(tmp_path / "parts"))
    assert without_clock(jobs.history) == without_clock(whole.history)
    assert jobs.kept == whole.kept


def test_whoever_goes_on_takes_the_trial(tmp_path):
    """Also on a later split: who lost a trial, and whether he had begun, is told by the folder of the trial."""
    folder, owners = TrialDir(tmp_path), []
    for _ in range(5):
        SplitJobs(specs_of(), folder).advance()
        owners.append(folder.owner_token)
    assert len(set(owners)) == 5
    assert folder.split(1).owner_token


def test_states_are_removed_again_where_that_was_cut_short(tmp_path, monkeypatch):
    """Whatever file it ended at, the state of the first split is still there to tell of it."""
    folder, unlink, left = TrialDir(tmp_path), Path.unlink, []

    def stops(path: Path, **options: bool) -> None:
        left.append(folder.state.exists())
        unlink(path, **options)

    trained(SplitJobs(specs_of(), folder))
    monkeypatch.setattr(Path, "unlink", stops)
    remove_states(folder)
    assert left == [True] * 4 + [False] * 2


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_splits_are_drawn_from_one_sample(rate):
    """Each splits the same images, holds out as many of each class, others than the other splits, and none to test."""
    experiment = parse(TEXT.format(epoch="last"), "split")
    tasks = [task_of(experiment.spec(Study("synthetic", rate, "l2_sp"), {}, 0, split)) for split in range(4)]
    first, tested = tasks[0], set(tasks[0].open_test().names)
    for task in tasks:
        assert set(task.train.names).isdisjoint(task.val.names)
        assert {*task.train.names, *task.val.names} == {*first.train.names, *first.val.names}
        assert task.val.labels_N.bincount().equal(first.val.labels_N.bincount())
        assert tested.isdisjoint([*task.train.names, *task.val.names])
    assert len({frozenset(task.val.names) for task in tasks}) == 4


def test_one_split_is_its_job_alone(tmp_path):
    """Of one split folder, rows and numbers are the job's own."""
    (spec, _), folder = specs_of(), TrialDir(tmp_path)
    jobs = trained(SplitJobs([spec], folder))
    assert [row["epoch"] for row in jobs.history] == [1, 2, 3]
    assert TrainingJob(spec, folder).history == jobs.history


def test_a_released_job_is_let_go(tmp_path):
    """When the next split begins, the model of the one before is no longer held."""
    jobs = SplitJobs(specs_of(), TrialDir(tmp_path))
    for _ in range(3):
        jobs.advance()
    assert [job._trainer is None for job in jobs.jobs] == [True, True]


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 10)), max_size=5))
def test_the_share_of_a_method(terms):
    """What a method's terms add to the cross-entropy over the whole training; unknown without any row."""
    history = [{"train_ce": ce, "train_loss": ce + more} for ce, more in terms]
    share = method_share(history)
    if not terms:
        assert share is None
        return
    assert share == pytest.approx(sum(more for _, more in terms) / sum(ce for ce, _ in terms), abs=1e-6)
    assert method_share([*history, {"val_score": 50.0}]) is None
