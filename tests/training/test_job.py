"""A training in its folder: what is written when, and that every way to its end gives one result."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cotuning_tune import methods
from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import Fenced, TrainingFailed
from cotuning_tune.models import pretrained
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.scores import ACCURACY, Score
from cotuning_tune.training import TrainingJob, TrainingSpec, job
from cotuning_tune.training.job import kept_row
from cotuning_tune.training.state import packed, remove_states, unpacked

ACCURACIES = [50.0, 75.0, 75.0, 60.0]


def spec_of(method: str = "fine_tune", seed: int = 0, **train) -> TrainingSpec:
    data = {"task_config": {"size": 32, "resize": 36}, "data_options": {"classes": 3}}
    pins = {"epochs": 4, "batch_size": 10, "optim/lr": 0.01, **train}
    return TrainingSpec(task="synthetic", rate=1.0, method=method, backbone="tiny_cnn", seed=seed, train=pins, **data)


def outcome(spec: TrainingSpec) -> tuple[list[dict], dict[str, Tensor]]:
    """All that a whole training leaves: its rows without the clock, its weights."""
    training = to_its_end(TrainingJob(spec))
    return without_clock(training.history), training.trainer.model.state_dict()


def without_clock(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in ("seconds", "time")} for row in history]


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def copy_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in weights.items()}


def judged(training: TrainingJob) -> TrainingJob:
    """The same job, its evaluation scripted: each epoch has the accuracy of the list."""
    left = iter(ACCURACIES[len(training.history) :])
    training.trainer.evaluate = lambda split: Score(next(left), 1.0, len(split), {})
    return training


def to_its_end(training: TrainingJob) -> TrainingJob:
    while not training.finished:
        training.advance()
    return training


def files_in(folder: Path) -> dict[str, bytes]:
    """What lies below a folder, without empty locks."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_row_tells_of_each_epoch():
    """An epoch's row holds its number, both accuracies, every term of the loss, and is JSON."""
    training = TrainingJob(spec_of("l2_sp"))
    rows = [training.advance(), training.advance()]
    assert training.history == rows == json.loads(json.dumps(rows))
    assert [row["epoch"] for row in rows] == [1, 2]
    terms = {"train_ce", "train_distance", "train_head_norm"}
    measured = {
        "val_score",
        "val_loss",
        "val_mean_class_accuracy",
        "train_loss",
        "train_accuracy",
        "lr",
        "seconds",
        "time",
        "epoch",
    }
    assert rows[0].keys() == terms | measured
    assert rows[1]["train_loss"] == pytest.approx(sum(rows[1][term] for term in terms))
    validated = training.trainer.evaluate(training.trainer.task.val)
    assert (validated.value, validated.loss) == (rows[1]["val_score"], rows[1]["val_loss"])


@pytest.mark.parametrize("stops", [[1], [3], [1, 2, 3]], ids=str)
def test_an_interrupted_training_goes_on(tmp_path, stops):
    """Taken up from its folder, a training has the history and weights of one that ran through; 30 images at 7."""
    spec = spec_of(batch_size=7)
    training = TrainingJob(spec, TrialDir(tmp_path))
    while not training.finished:
        training.advance()
        if len(training.history) in stops:
            training = TrainingJob(spec, TrialDir(tmp_path))
    history, weights = outcome(spec)
    assert without_clock(training.history) == history
    assert same_weights(training.trainer.model.state_dict(), weights)


def test_a_finished_job_builds_no_model(tmp_path, monkeypatch):
    """A job whose folder holds all epochs knows its history and what it kept without making a model."""
    spec = spec_of(epochs=2)
    first = TrainingJob(spec, TrialDir(tmp_path))
    first.advance()
    assert not first.finished
    first.advance()

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a model was made")

    monkeypatch.setattr(job, "make_trainer", refuse)
    again = TrainingJob(spec, TrialDir(tmp_path))
    assert again.finished
    assert again.history == first.history
    assert again.kept == first.kept == first.history[-1]


def test_a_new_job_makes_no_model_and_no_file(tmp_path):
    """Before the first epoch nothing is written, and no epoch is kept."""
    training = TrainingJob(spec_of(), TrialDir(tmp_path / "trial"))
    assert not training.finished
    assert training.kept is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("epoch", "kept"), [("last", 4), ("best", 3)])
@pytest.mark.parametrize("resumed", [False, True], ids=["in one go", "resumed"])
def test_the_named_epoch_is_kept(tmp_path, resumed, epoch, kept):
    """Of 50, 75, 75 and 60 % the last epoch's weights are kept, or of the best ones the later; resumed or not."""
    spec, folder = spec_of(epoch=epoch), TrialDir(tmp_path)
    training, weights = judged(TrainingJob(spec, folder, keep_best=True)), []
    while not training.finished:
        training.advance()
        weights.append(copy_of(training.trainer.model.state_dict()))
        if resumed:
            training = judged(TrainingJob(spec, folder, keep_best=True))
    assert (training.kept["epoch"], training.kept["val_score"]) == (kept, ACCURACIES[kept - 1])
    training.load_best()
    matches = [same_weights(training.trainer.model.state_dict(), written) for written in weights]
    assert matches == [number == kept for number in (1, 2, 3, 4)]


def test_the_last_epoch_is_the_default():
    """A spec that does not say which epoch is kept keeps the last."""
    assert (spec_of().epoch, spec_of(epoch="best").epoch) == ("last", "best")


@given(st.lists(st.sampled_from([10.0, 20.0, 30.0]), max_size=6))
def test_ties_go_to_the_later_epoch(accuracies):
    """'best' keeps an epoch that none after it reaches and none before it exceeds; 'last' whatever came last."""
    history = [{"epoch": number, "val_score": value} for number, value in enumerate(accuracies, 1)]
    best = kept_row(history, "best", ACCURACY)
    assert kept_row(history, "last", ACCURACY) == (history[-1] if history else None)
    assert (best is None) == (not history)
    if best:
        number = best["epoch"]
        assert max(accuracies[:number]) == best["val_score"] == accuracies[number - 1]
        assert all(value < best["val_score"] for value in accuracies[number:])


@pytest.mark.parametrize("epoch", ["last", "best"])
@pytest.mark.parametrize("keep_best", [False, True])
def test_only_what_is_asked_for_is_written(tmp_path, epoch, keep_best):
    """A folder holds owner and state, no temporary file; what has ended leaves its history, or what it keeps."""
    training = TrainingJob(spec_of(epochs=2, epoch=epoch), TrialDir(tmp_path), keep_best=keep_best)
    for number in (1, 2):
        training.advance()
        assert sorted(files_in(tmp_path)) == ["owner", *["state.previous.pt"][: number - 1], "state.pt"]
        state = unpacked(TrialDir(tmp_path).state.read_bytes())
        assert ("trainer" in state) == (keep_best or number == 1)
        assert state["best"] is None or (keep_best, epoch) == (True, "best")


@pytest.mark.parametrize(
    ("every", "written"), [(0.0, [1, 2, 3, 4, 5]), (30.0, [3, 5]), (60.0, [5]), (9.0, [1, 2, 3, 4, 5])]
)
def test_a_kill_costs_at_most_so_many_seconds(tmp_path, monkeypatch, every, written):
    """With epochs of 10 s the state is written where the next one would end later; and at the end."""
    now, training = [0.0], TrainingJob(spec_of(epochs=5), TrialDir(tmp_path), state_every=every)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    train, found = training.trainer.train_epoch, []

    def train_epoch():
        now[0] += 10
        return train()

    monkeypatch.setattr(training.trainer, "train_epoch", train_epoch)
    while not training.finished:
        before = files_in(tmp_path).get("state.pt")
        training.advance()
        if files_in(tmp_path).get("state.pt") != before:
            found.append(len(training.history))
    assert found == written


@pytest.mark.parametrize("epoch", ["last", "best"])
@pytest.mark.parametrize("pauses", [True, False], ids=["paused", "killed"])
def test_what_was_not_written_is_trained_again(tmp_path, pauses, epoch):
    """A pause loses nothing, a kill what came after the state; the end is the same bit for bit."""
    spec, folder = spec_of(epoch=epoch), TrialDir(tmp_path)
    undisturbed = to_its_end(judged(TrainingJob(spec, keep_best=True)))
    first = judged(TrainingJob(spec, folder, keep_best=True, state_every=1e9))
    for saved in (False, True, pauses):
        first.advance()
        if saved:
            first.save()
    again = judged(TrainingJob(spec, folder, keep_best=True, state_every=1e9))
    assert len(again.history) == (3 if pauses else 2)
    assert without_clock(to_its_end(again).history) == without_clock(undisturbed.history)
    for job_ in (undisturbed, again, TrainingJob(spec, folder, keep_best=True)):
        assert job_.finished
        job_.load_best()
        assert same_weights(job_.trainer.network.state_dict(), undisturbed.trainer.network.state_dict())


@pytest.mark.parametrize(("epoch", "validated"), [("last", [4]), ("best", [1, 2, 3, 4])])
def test_an_epoch_is_validated_where_something_asks(epoch, validated):
    """The last one, or each where the best is kept; weights and training rows are those of a training that does all."""
    each = to_its_end(TrainingJob(spec_of(epoch=epoch)))
    asked = to_its_end(TrainingJob(spec_of(epoch=epoch), each=False))
    assert [row["epoch"] for row in asked.history if "val_score" in row] == validated
    assert asked.kept["val_score"] == each.kept["val_score"]
    assert [row["train_loss"] for row in asked.history] == [row["train_loss"] for row in each.history]
    assert same_weights(asked.trainer.model.state_dict(), each.trainer.model.state_dict())


def test_a_state_is_of_whole_epochs(tmp_path, monkeypatch):
    """Ended in the middle of an epoch, by an error of the method say, a training writes no state of that."""
    training = TrainingJob(spec_of(epochs=4), TrialDir(tmp_path), state_every=1e9)
    training.advance()
    monkeypatch.setattr(training.trainer, "evaluate", lambda split: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.advance()
    training.save()
    assert list(files_in(tmp_path)) == ["owner"]


@pytest.mark.parametrize("begins", [True, False], ids=["before its first epoch", "later"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_fenced_job_writes_nothing(tmp_path, epochs, begins):
    """Where this process must not write any more, an epoch ends before the folder changes."""
    for _ in range(epochs):
        judged(TrainingJob(spec_of(), TrialDir(tmp_path), keep_best=True)).advance()
    owned = True

    def refuse(_size: int) -> None:
        if not owned:
            raise Fenced("a newer driver owns the run")

    fenced = judged(TrainingJob(spec_of(), TrialDir(tmp_path), keep_best=True, may_write=refuse))
    if not begins:
        fenced.advance()
    before, owned = files_in(tmp_path), False
    with pytest.raises(Fenced, match="newer driver"):
        fenced.advance()
    assert files_in(tmp_path) == before


def test_a_job_that_never_trains_takes_nothing_over(tmp_path):
    """A process that was made for a training which another one does in the end leaves that one alone."""
    trains = judged(TrainingJob(spec_of(), TrialDir(tmp_path)))
    trains.advance()
    TrainingJob(spec_of(), TrialDir(tmp_path))
    trains.advance()
    assert len(TrainingJob(spec_of(), TrialDir(tmp_path)).history) == 2


@pytest.mark.parametrize("ended", [False, True], ids=["still training", "ended since"])
def test_the_last_to_begin_owns_the_folder(tmp_path, ended):
    """A process that was cut off and comes back writes nothing where another took its training over."""
    folder = TrialDir(tmp_path)
    lost = judged(TrainingJob(spec_of(), folder, keep_best=True))
    lost.advance()
    successor = judged(TrainingJob(spec_of(), folder, keep_best=True))
    successor.advance()
    if ended:
        remove_states(folder)
    before = files_in(tmp_path)
    with pytest.raises(Fenced, match="taken over"):
        lost.advance()
    assert files_in(tmp_path) == before
    assert ended or len(judged(TrainingJob(spec_of(), folder)).history) == 2


def test_a_failed_epoch_leaves_no_trace(tmp_path):
    """A training that diverges raises TrainingFailed, and neither history nor folder hold that epoch."""
    training = TrainingJob(spec_of(**{"optim/lr": 1e30}), TrialDir(tmp_path))
    with pytest.raises(TrainingFailed, match="not finite in epoch 1"):
        training.advance()
    assert training.history == []
    assert list(files_in(tmp_path)) == ["owner"]


@pytest.mark.parametrize("where", ["making", "training"])
def test_lack_of_memory_is_a_failed_training(monkeypatch, where):
    """Where a GPU's memory does not suffice, the reason is one line of TrainingFailed."""

    def exhausted(*_arguments: object, **_options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore lines")

    training = TrainingJob(spec_of())
    if where == "making":
        monkeypatch.setattr(job, "make_trainer", exhausted)
    else:
        training.trainer.train_epoch = exhausted
    with pytest.raises(TrainingFailed, match=r"^out of memory: CUDA out of memory\. Tried .* GiB\.$"):
        training.advance()


def test_a_trainer_without_its_state_is_never_used(tmp_path):
    """Where a state cannot be taken over, every access says so; none gives a trainer at its beginning."""
    TrainingJob(spec_of("co_tuning"), TrialDir(tmp_path)).advance()
    state = unpacked(TrialDir(tmp_path).state.read_bytes())
    state["trainer"]["method"] = {}
    TrialDir(tmp_path).state.write_bytes(packed(state))
    training = TrainingJob(spec_of("co_tuning"), TrialDir(tmp_path))
    for _ in range(2):
        with pytest.raises(KeyError, match="the state lacks relationship_TS"):
            training.advance()


def test_a_spec_survives_json():
    """A spec read back from JSON is equal, with every field away from its default."""
    spec = TrainingSpec(
        task="birds",
        rate=0.5,
        method="delta",
        backbone="tiny_cnn",
        seed=7,
        format="synthetic",
        weights="random",
        task_config={"size": 32},
        data_options={"classes": 5},
        train={"optim/lr": 0.25, "schedule": "cosine"},
        method_config={"attention": False},
    )
    assert TrainingSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_equal_specs_give_equal_results():
    """Two trainings of one spec agree bit for bit, whatever was drawn in the process before."""
    torch.manual_seed(1)
    one = outcome(spec_of())
    torch.manual_seed(2)
    same = outcome(TrainingSpec.from_json(json.loads(json.dumps(spec_of().to_json()))))
    assert one[0] == same[0]
    assert same_weights(one[1], same[1])


def test_another_seed_gives_another_result():
    """A training of another seed ends at other weights, on the same split."""
    one, other = spec_of(), replace(spec_of(), seed=1)
    assert not same_weights(outcome(one)[1], outcome(other)[1])
    assert TrainingJob(one).trainer.task is TrainingJob(other).trainer.task


def test_a_resumed_training_learns_nothing_anew(tmp_path, monkeypatch):
    """What setup learned is in the state: a training that goes on elsewhere does not run it again."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "first"))
    TrainingJob(spec_of("co_tuning"), TrialDir(tmp_path / "trial")).advance()
    assert files_in(cache_root())
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "second"))
    TrainingJob(spec_of("co_tuning"), TrialDir(tmp_path / "trial")).advance()
    assert not files_in(cache_root())


@pytest.mark.parametrize(("interval", "rows"), [(0, 3), (2, 4), (7, 1)])
def test_iterations_survive_interruptions(tmp_path, interval, rows):
    """A training of seven iterations has a row an interval, and ends at the same bits when stopped after each."""
    spec = spec_of(iterations=7, interval=interval)
    whole, weights = outcome(spec)
    for _ in range(rows):
        part = TrainingJob(spec, TrialDir(tmp_path / "trial"))
        assert (part.epochs, part.finished) == (rows, False)
        part.advance()
    assert part.finished
    assert [row["epoch"] for row in whole] == list(range(1, rows + 1))
    assert without_clock(part.history) == whole
    assert same_weights(part.trainer.model.state_dict(), weights)


def test_every_label_is_trained_on_and_none_validated(tmp_path):
    """With ``trainval`` a pass takes the images of both splits, and rows know neither accuracy nor loss of any."""
    spec = spec_of(batch_size=5)
    every = replace(spec, task_config=spec.task_config | {"train_on": "trainval"})
    plain, training = TrainingJob(spec), TrainingJob(every, TrialDir(tmp_path), keep_best=True)
    task = training.trainer.task
    assert len(task.fit) == len(task.train) + len(task.val)
    assert (plain.trainer.batches, training.trainer.batches) == (len(task.train) // 5, len(task.fit) // 5)
    seen = [set(), set()]
    for one, names in zip((plain, training), seen, strict=True):
        load, fit = one.trainer.load_batch, one.trainer.task.fit
        one.trainer.load_batch = lambda chosen, stored=None, load=load, fit=fit, names=names: (
            names.update(fit.names[place] for place in chosen),
            load(chosen, stored),
        )[1]
        while not one.finished:
            one.advance()
    assert seen[0] == set(task.train.names)
    assert seen[1] == set(task.train.names) | set(task.val.names)
    assert not [key for row in training.history for key in row if key.startswith("val_")]
    assert training.kept == training.history[-1]
    training.load_best()


def test_a_state_serves_both_ways_of_decoding(tmp_path):
    """A training goes on from its state when the images are decoded another way: the results are the same."""
    spec, folder = spec_of(), TrialDir(tmp_path / "trial")
    TrainingJob(spec, folder).advance()
    other = TrainingJob(replace(spec, task_config=spec.task_config | {"decode": "each"}), folder)
    assert len(other.history) == 1
    assert not other.notices


def test_what_setup_draws_leaves_no_trace(monkeypatch):
    """Training draws the same random numbers whether setup had drawn some, computing, or none, from the cache."""

    def draw(*_arguments: object) -> None:
        torch.rand(5)

    job.make_trainer(spec_of())
    plain = torch.get_rng_state()
    monkeypatch.setattr(methods.method("fine_tune"), "setup", draw)
    job.make_trainer(spec_of())
    assert torch.equal(torch.get_rng_state(), plain)


def test_the_seed_draws_the_new_head():
    """The new head starts at other weights for another seed, at the same for the same."""
    one, same, other = (job.make_trainer(spec_of(seed=seed)).model.head.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", methods.names())
def test_the_cache_changes_no_result(name, monkeypatch, tmp_path):
    """What setup learned ends in the same bits whether it was computed now or read from the cache."""
    spec = spec_of(name, epochs=2)
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "first"))
    computed, kept = outcome(spec), files_in(cache_root())
    cached = outcome(spec)
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "second"))
    again = outcome(spec)
    assert computed[0] == cached[0] == again[0]
    assert same_weights(computed[1], cached[1])
    assert same_weights(computed[1], again[1])
    assert files_in(cache_root()).keys() == kept.keys()


def test_sides_other_than_the_weights_own_are_said(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Images of other sides than the weights were made for are allowed, and the log names both."""
    job.check_backbone(spec_of())
    assert caplog.messages == []
    source = replace(pretrained("tiny_cnn"), sides=(40, 32), is_random=False)
    monkeypatch.setattr(job, "source_of", lambda spec: source)
    job.check_backbone(spec_of())
    expected = "tiny_cnn: its weights were made for task.resize = 40, task.size = 32; here they are 36 and 32"
    assert caplog.messages == [expected]
