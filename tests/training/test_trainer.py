"""The one loop: which images a step sees, how fast what learns, and that its state is all there is."""

import io
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import TrainingFailed, UserError
from cotuning_tune.base.seeding import derive_seed, random_state, seed_all, set_random_state
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.methods import Batch, Method
from cotuning_tune.models import Outputs, TransferModel, pretrained
from cotuning_tune.training import OptimConfig, TrainConfig, Trainer, TrainingSpec
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.optim import factor
from cotuning_tune.training.order import places


class Watching(Method):
    """Plain fine-tuning that notes which images each step sees, and its learning rates."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, config: object, model: TransferModel, task: object) -> None:
        super().__init__(config, model, task)
        self.seen: list[list[int]] = []

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        self.seen.append(batch.index.tolist())
        return {}


class Drawing(Watching):
    """Adds a weight of its own times numbers of every global generator."""

    def __init__(self, config: object, model: TransferModel, task: object) -> None:
        super().__init__(config, model, task)
        self.own = nn.Parameter(torch.ones(()))

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        return {"drawn": self.own * (torch.rand(()) + np.random.rand() + random.random())}


def watched_trainer(per_class: int, kind: type[Method] = Watching, **config) -> Trainer:
    """A trainer of two classes with ``per_class`` training images each."""
    held = next(n for n in range(1, per_class + 1) if max(round(0.2 * (per_class + n)), 1) == n)
    options = {"classes": 2, "images": per_class + held}
    task = open_task("synthetic", 1.0, TaskConfig(size=16, resize=18), options)
    assert len(task.train) == 2 * per_class
    model = TransferModel(pretrained("tiny_cnn"), 2, torch.Generator().manual_seed(0))
    return Trainer(model, kind(kind.Config(), model, task), task, TrainConfig(**config), seed=0)


def spec_of(method: str = "fine_tune", seed: int = 0, min_scale: float = 0.08, **train) -> TrainingSpec:
    sizes = {"size": 32, "resize": 32, "min_scale": min_scale, "flip": min_scale < 1}
    data = {"task_config": sizes, "data_options": {"classes": 3}}
    pins = {"epochs": 3, "batch_size": 10, "optim/lr": 0.01, **train}
    return TrainingSpec(task="synthetic", rate=1.0, method=method, backbone="tiny_cnn", seed=seed, train=pins, **data)


def copied(state: dict) -> dict:
    """The state as it comes back from a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def statistics_of(model: nn.Module) -> dict[str, Tensor]:
    """Everything that BatchNorm layers remember of the images that they saw."""
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {key: value.clone() for key, value in model.state_dict().items() if key.endswith(names)}


@pytest.mark.parametrize(
    ("per_class", "batch_size", "sizes"),
    [
        (8, 16, [16]),
        (8, 48, [16]),
        (8, 15, [15]),
        (8, 8, [8, 8]),
        (8, 7, [7, 7]),
        (8, 11, [11]),
        (8, 10, [10, 10]),
        (7, 4, [4, 4, 4, 4]),
    ],
)
def test_every_batch_has_the_size_that_was_asked_for(per_class, batch_size, sizes):
    """An epoch is the whole number of full batches that is nearest to the images; a smaller split is one batch."""
    trainer = watched_trainer(per_class, batch_size=batch_size)
    trainer.train_epoch()
    assert list(map(len, trainer.method.seen)) == sizes


@pytest.mark.parametrize(
    ("images", "batch_size", "batch", "batches"),
    [(49, 48, 48, 1), (100, 24, 24, 4), (5, 48, 5, 1), (47, 48, 47, 1), (73, 48, 48, 2), (1000, 48, 48, 21)],
)
def test_steps_of_a_pass(images, batch_size, batch, batches):
    """49 images at 48 are one step of 48; no number of images makes a batch of another size, or a pass of no step."""
    config = TrainConfig(batch_size=batch_size)
    assert (config.batch(images), config.batches(images)) == (batch, batches)
    assert {len(chosen) for chosen in places(0, images, batch, 0, 5 * batches)} == {batch}


@pytest.mark.parametrize(("images", "batch"), [(49, 48), (100, 24), (5, 5), (16, 7)])
def test_every_image_is_seen_equally_often(images, batch):
    """Each stretch of the stream as long as the split is one permutation; at no step does a count differ by two."""
    chosen = list(places(3, images, batch, 0, 4 * images))
    stream = [place for one in chosen for place in one]
    assert [len(one) for one in chosen] == [batch] * 4 * images
    stretches = [stream[start : start + images] for start in range(0, len(stream), images)]
    assert all(sorted(stretch) == list(range(images)) for stretch in stretches)
    assert len(set(map(tuple, stretches))) == len(stretches) or images == 5
    counts = [0] * images
    for one in chosen:
        for place in one:
            counts[place] += 1
        assert max(counts) - min(counts) <= 1


def test_a_step_follows_from_seed_and_number():
    """Whoever begins at any step gets the batches of whoever came from the start; another seed gives others."""
    whole = list(places(0, 49, 48, 0, 120))
    assert [next(places(0, 49, 48, step, step + 1)) for step in range(120)] == whole
    assert list(places(0, 49, 48, 70, 120)) == whole[70:]
    assert list(places(1, 49, 48, 0, 120)) != whole


def test_every_epoch_has_its_own_order():
    """The second epoch uses every image again, in another order."""
    trainer = watched_trainer(8, batch_size=16)
    trainer.train_epoch()
    trainer.train_epoch()
    first, second = trainer.method.seen
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_batch_holds_the_labels_of_its_images():
    """Labels stand beside the images that were asked for."""
    trainer = watched_trainer(8, batch_size=5)
    batch = trainer.load_batch([3, 0, 9])
    assert batch.index.tolist() == [3, 0, 9]
    assert batch.labels.tolist() == trainer.task.train.labels_N[[3, 0, 9]].tolist()
    assert batch.views[0].shape == (3, 3, 16, 16)


@pytest.mark.parametrize("field", ["epochs", "batch_size"])
def test_less_than_one_is_refused(field):
    """No epoch or no image in a batch is an error that names the key."""
    with pytest.raises(UserError, match=f"train.{field} = 0: at least 1 is needed"):
        TrainConfig(**{field: 0})


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("multistep", 0, 1.0),
        ("multistep", 5999, 1.0),
        ("multistep", 6000, 0.1),
        ("multistep", 8999, 0.1),
        ("cosine", 0, 1.0),
        ("cosine", 3000, 0.75),
        ("cosine", 4500, 0.5),
        ("cosine", 8999, 0.25 * (math.pi / 9000) ** 2),
    ],
)
def test_schedules_follow_the_paper(schedule, step, expected):
    """Of 9000 steps: multistep falls to a tenth at step 6000, cosine from one to almost nothing."""
    assert factor(schedule, step, 9000) == pytest.approx(expected, rel=1e-6)


def test_the_learning_rate_falls_within_an_epoch():
    """The schedule counts steps, not epochs: of 2 epochs of 3 steps, the second has one at the full rate."""
    trainer = watched_trainer(8, batch_size=6, epochs=2, optim=OptimConfig(lr=0.5))
    rates = []
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda: (rates.append(trainer.optimiser.param_groups[0]["lr"]), step())
    assert [trainer.train_epoch()["lr"], trainer.train_epoch()["lr"]] == [0.5, 0.05]
    assert rates == [0.5] * 4 + [0.05] * 2


@pytest.mark.parametrize(
    ("interval", "rows"), [(0, [3, 3, 3]), (2, [2, 2, 2, 2, 1]), (4, [4, 4, 1]), (9, [9]), (20, [9])]
)
def test_iterations_count_instead_of_epochs(interval, rows):
    """Nine steps in rows of one pass or of an interval; x 0.1 from step 6 of 9 on, wherever the rows end."""
    config = {"batch_size": 6, "iterations": 9, "interval": interval, "optim": OptimConfig(lr=0.5)}
    trainer = watched_trainer(8, **config)
    assert (trainer.batches, trainer.steps, trainer.config.rows(trainer.batches)) == (3, 9, len(rows))
    rates, found = [], []
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda: (rates.append(trainer.optimiser.param_groups[0]["lr"]), step())
    for _ in rows:
        before = len(rates)
        trainer.train_epoch()
        found.append(len(rates) - before)
    assert found == rows
    assert rates == [0.5] * 6 + [0.05] * 3
    stream = [place for batch in trainer.method.seen for place in batch]
    for first in (0, 16, 32):  # every image once before any comes again, also across rows
        assert sorted(stream[first : first + 16]) == list(range(16))


def test_an_interval_reports_means_over_its_own_images():
    """The numbers of an interval are means over the images of its steps, not of a whole pass."""
    config = {"batch_size": 7, "iterations": 2, "interval": 1, "optim": OptimConfig(lr=0.0), "batch_norm": "frozen"}
    trainer = watched_trainer(8, **config)
    batch = trainer.load_batch(next(places(0, 16, 7, 0, 1)))
    trainer._train_mode()
    terms, right = trainer.losses(batch)
    row = trainer.train_epoch()
    assert row["ce"] == pytest.approx(terms["ce"].item())
    assert row["accuracy"] == pytest.approx(100 * right.item() / len(batch.labels))


def test_the_published_length():
    """Of 9000 iterations the learning rate falls at 6000, whatever the size of the data set."""
    config = TrainConfig(iterations=9000, interval=500)
    steps = config.steps(batches=17)
    assert [factor(config.schedule, step, steps) for step in (0, 5999, 6000, 8999)] == [1.0, 1.0, 0.1, 0.1]
    assert config.rows(batches=17) == 18
    assert TrainConfig(iterations=9000).rows(batches=21) == 429
    assert TrainConfig(epochs=40).rows(batches=21) == 40


def test_an_interval_needs_iterations():
    """An interval without iterations is refused by its key."""
    with pytest.raises(UserError, match=r"train\.interval counts with train\.iterations") as caught:
        TrainConfig(interval=5)
    assert caught.value.key == "train.interval"


def test_the_step_draws_the_augmentation():
    """A batch is augmented by seed and step alone: fetched twice it is the same, at another step it is not."""
    trainer = watched_trainer(8)
    first, same = (trainer.load_batch([1, 2, 3]).views[0] for _ in range(2))
    trainer.step = 1
    assert torch.equal(first, same)
    assert not torch.equal(first, trainer.load_batch([1, 2, 3]).views[0])


def test_the_new_head_learns_faster():
    """The head has the backbone's learning rate times its factor, every other weight the rate itself."""
    trainer = make_trainer(spec_of("co_tuning", **{"optim/lr": 0.5, "optim/head_lr_factor": 30.0}))
    model = trainer.model
    rates = {id(p): group["lr"] for group in trainer.optimiser.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in model.head.parameters()} == {15.0}
    assert {rates[id(p)] for part in (model.backbone, model.source_head) for p in part.parameters()} == {0.5}
    assert len(rates) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "lr": 1e-3}),
        ({"momentum": 0.0, "lr": 0.5}, {"momentum": 0.0, "nesterov": False, "weight_decay": 5e-4, "lr": 0.5}),
        ({"nesterov": False}, {"momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "lr": 1e-3}),
    ],
    ids=["published", "no momentum", "plain momentum"],
)
def test_the_optimiser_is_the_published_one(config, expected):
    """SGD as published by default; without momentum there is no Nesterov step to ask for."""
    group = watched_trainer(8, optim=OptimConfig(**config)).optimiser.param_groups[0]
    assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize(("mode", "kept"), [("frozen", True), ("train", False)])
def test_frozen_statistics_do_not_move(mode, kept):
    """Frozen, BatchNorm keeps the pre-trained statistics bit for bit and learns its weights all the same."""
    trainer = make_trainer(spec_of(batch_norm=mode))
    before, scale = statistics_of(trainer.model), trainer.model.backbone.chain[0][1].weight.clone()
    trainer.train_epoch()
    trainer.evaluate(trainer.task.val)
    after = statistics_of(trainer.model)
    assert len(after) == 9
    assert {torch.equal(value, after[key]) for key, value in before.items()} == {kept}
    assert not torch.equal(trainer.model.backbone.chain[0][1].weight, scale)


def test_divergence_is_reported():
    """A loss that is not finite ends the training with the epoch and the term that failed."""
    trainer = make_trainer(spec_of(**{"optim/lr": 1e30}))
    with pytest.raises(TrainingFailed, match=r"not finite in epoch 1: ce = nan"):
        trainer.train_epoch()


def test_divergence_in_the_last_step_is_reported():
    """Weights that are not finite after an epoch's one step are found by the evaluation."""
    trainer = make_trainer(spec_of(batch_size=100, **{"optim/lr": 1e36}))
    assert math.isfinite(trainer.train_epoch()["loss"])
    with pytest.raises(TrainingFailed, match="not finite in evaluation after epoch 1: loss = "):
        trainer.evaluate(trainer.task.val)


def test_an_epoch_reports_means_over_its_images():
    """Each number of an epoch is a mean over images: with nothing learned, that of one large batch."""
    rows = []
    for batch_size in (10, 100):
        pins = {"batch_norm": "frozen", "batch_size": batch_size, "optim/lr": 0.0}
        rows.append(make_trainer(spec_of(min_scale=1.0, **pins)).train_epoch())
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)
    assert rows[0]["loss"] == rows[0]["ce"]


def draws() -> list:
    """Some numbers of every global generator; the Gaussians come in pairs, of which one is kept."""
    return [torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn(), random.gauss(0, 1)]


def test_every_global_generator_is_restored():
    """torch, numpy and Python go on from a saved state as if nothing had been drawn since."""
    seed_all(3)
    first = draws()
    state = copied(random_state())
    expected = [draws(), draws()]
    seed_all(4)
    set_random_state(state)
    assert [draws(), draws()] == expected
    seed_all(3)
    assert draws() == first


def test_seeds_depend_on_every_part():
    """A derived seed is the same on every machine and fits 63 bits; another part is another seed."""
    assert derive_seed(0, "order") == 0x91374D56F0AE015B >> 1
    assert len({derive_seed(*parts) for parts in [(0, "order"), (1, "order"), (0, "head")]}) == 3
    assert 0 <= derive_seed("anything") < 2**63


@pytest.mark.parametrize("method", ["fine_tune", "co_tuning", "delta"])
def test_the_state_lacks_nothing(method):
    """A trainer of another seed that takes over a state goes on bit for bit, in every number and weight."""
    first = make_trainer(spec_of(method))
    first.train_epoch()
    state = copied(first.state_dict())
    expected = [first.train_epoch(), first.train_epoch()]
    second = make_trainer(spec_of(method, seed=1), setup=False)
    second.load_state_dict(state)
    assert [second.train_epoch(), second.train_epoch()] == expected
    assert second.evaluate(second.task.val) == first.evaluate(first.task.val)
    theirs = first.model.state_dict() | first.method.state_dict()
    for key, value in (second.model.state_dict() | second.method.state_dict()).items():
        assert torch.equal(value, theirs[key]), key


def test_the_state_holds_what_a_method_learns_and_draws():
    """A method's own weights learn at the backbone's rate; they and the global generators are restored."""
    config = {"batch_size": 7, "epochs": 3, "optim": OptimConfig(lr=0.01)}
    first, second = (watched_trainer(8, Drawing, **config) for _ in range(2))
    first.train_epoch()
    state, reached = copied(first.state_dict()), first.method.own.item()
    expected = first.train_epoch()
    second.load_state_dict(state)
    assert second.method.own.item() == reached < 1.0
    assert second.train_epoch() == expected
    rates = [g["base_lr"] for g in second.optimiser.param_groups if g["params"][0] is second.method.own]
    assert rates == [0.01]


def test_a_state_without_the_methods_buffers_is_refused():
    """A state that lacks what the method learned before training cannot be taken over silently."""
    trainer = make_trainer(spec_of("co_tuning"))
    state = trainer.state_dict() | {"method": {}}
    with pytest.raises(KeyError, match="the state lacks relationship_TS of the method"):
        trainer.load_state_dict(state)
