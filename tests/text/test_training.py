"""Training on tagged sentences: the loop, batches of one length, and what methods do with tokens."""

import copy
import math
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from cotuning_tune import methods
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Batch, TaskConfig
from cotuning_tune.hyper import read_space, to_flat
from cotuning_tune.methods import Preparation
from cotuning_tune.scores import METRICS
from cotuning_tune.training import TrainConfig, Trainer, TrainingSpec
from cotuning_tune.training.job import chance, check_backbone, make_trainer, source_of, task_of
from cotuning_tune.training.order import places

REFUSES = {"delta": "has no stages of them", "stoch_norm": "BatchNorm"}


def spec_of(method: str = "fine_tune", train: dict[str, Any] | None = None, **config: Any) -> TrainingSpec:
    space = read_space(TrainConfig, {}, "train")
    values = {key: parameter.first for key, parameter in space.items()}
    values |= {"epochs": 2, "batch_size": 8, "optim/name": "adamw", "optim/lr": 1e-3, "optim/clip_norm": 1.0}
    return TrainingSpec(
        task="synthetic_ner",
        rate=1.0,
        method=method,
        backbone="tiny_bert",
        seed=3,
        metric="entity_f1",
        task_config=to_flat(TaskConfig(max_length=64)),
        train=values | (train or {}),
        method_config=config,
    )


def weights_of(trainer: Trainer) -> list[torch.Tensor]:
    return [weight.clone() for weight in trainer.network.state_dict().values()]


@pytest.mark.parametrize("sizes", [None, [(7 * n) % 23 for n in range(50)]], ids=["as drawn", "by length"])
def test_batches_follow_from_seed_and_step(sizes: list[int] | None) -> None:
    """From whatever step one begins, the same batches; after whole passes every example as often as the others."""
    every = list(places(5, 50, 8, 0, 60, sizes))
    for first in (1, 6, 17, 59):
        assert list(places(5, 50, 8, first, 60, sizes)) == every[first:]
    assert {len(batch) for batch in every} == {8}
    counts = Counter(chain.from_iterable(every[:54])).values()
    assert max(counts) - min(counts) <= 1


def test_batches_of_one_length() -> None:
    """With sizes the spread within a batch is a small part of what it is as drawn; other batches come first."""
    sizes = np.random.default_rng(0).integers(1, 100, 600).tolist()
    drawn, alike = (list(places(1, 600, 8, 0, 75, given)) for given in (None, sizes))
    spread = [np.mean([np.ptp([sizes[p] for p in batch]) for batch in batches]) for batches in (drawn, alike)]
    assert spread[1] < spread[0] / 4
    means = [np.mean([sizes[p] for p in batch]) for batch in alike[:16]]
    assert means != sorted(means)


def test_a_resumed_training_is_the_same_to_the_last_bit() -> None:
    """Dropout, order and the optimiser continue where they were."""
    straight = make_trainer(spec_of("co_tuning", approach="direct"))
    straight.train_epoch()
    row = straight.train_epoch()
    first = make_trainer(spec_of("co_tuning", approach="direct"))
    first.train_epoch()
    state = copy.deepcopy(first.state_dict())
    second = make_trainer(spec_of("co_tuning", approach="direct"), setup=False)
    second.load_state_dict(state)
    assert second.train_epoch() == row
    assert all(torch.equal(a, b) for a, b in zip(weights_of(straight), weights_of(second), strict=True))
    assert second.evaluate(second.task.val) == straight.evaluate(straight.task.val)


def test_parts_of_a_batch_add_up() -> None:
    """Rows are dealt out with their labels; the loss of the parts is that of the whole, up to rounding."""
    trainer = make_trainer(spec_of())
    trainer.network.eval()
    batch = trainer.load_batch(list(range(8)))
    parts = batch.parts(3)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    losses = [trainer.losses(part)[0]["ce"] * len(part.labels) for part in parts]
    whole = trainer.losses(batch)[0]["ce"] * len(batch.labels)
    assert sum(losses).item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_serves_or_refuses(name: str) -> None:
    """An epoch with finite terms, and a score; or a reason in one line before anything is trained."""
    config = {"approach": "direct"} if name == "co_tuning" else {}
    if name in REFUSES:
        with pytest.raises(UserError, match=REFUSES[name]):
            make_trainer(spec_of(name, **config))
        return
    trainer = make_trainer(spec_of(name, {"epochs": 1}, **config))
    row = trainer.train_epoch()
    assert all(math.isfinite(value) for value in row.values())
    assert 0 <= trainer.evaluate(trainer.task.val).value <= 100


def test_the_relationship_is_that_of_types() -> None:
    """Direct: the mean probabilities of the training words of each type, the same for its B and its I."""
    spec = spec_of("co_tuning", approach="direct")
    trainer, task, source = make_trainer(spec), task_of(spec), source_of(spec)
    matrix_TS = trainer.method.relationship_TS
    preparation = Preparation(task, source, torch.device("cpu"))
    told_NS = preparation.source_logits(task.train).double().softmax(1)
    rows_N = torch.tensor(task.source_rows)[task.train.labels_N]
    for row in range(3):
        b, i = (n for n, r in enumerate(task.source_rows) if r == row)
        torch.testing.assert_close(matrix_TS[b].double(), told_NS[rows_N == row].mean(0), rtol=1e-4, atol=1e-7)
        assert torch.equal(matrix_TS[b], matrix_TS[i])
    names = {related["target"] for related in trainer.method.summary(task)["related"]}
    assert names == {"LOC", "ORG", "PER"}


def test_the_term_is_of_entities_alone() -> None:
    """Words outside of entities change nothing of it; a batch without any entity has a term of 0."""
    trainer = make_trainer(spec_of("co_tuning", approach="direct", weight=1.0))
    trainer.model.eval()
    batch = trainer.load_batch(list(range(8)))
    outputs = trainer.model(batch.views[0])
    inside = batch.labels > 0
    term = trainer.method.terms(batch, outputs, trainer.model)["co_tuning"]
    logits = trainer.model.source_head(outputs.features[inside])
    expected = -(trainer.method.relationship_TS[batch.labels[inside]] * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(term, expected)
    nothing = Batch(batch.views, torch.zeros_like(batch.labels), batch.index, counts=batch.counts)
    assert trainer.method.terms(nothing, outputs, trainer.model)["co_tuning"].item() == 0


def test_reverse_is_an_option() -> None:
    """Rows of the reverse relationship are probabilities over the vocabulary, the same for B and I of a type."""
    trainer = make_trainer(spec_of("co_tuning", approach="reverse"))
    matrix_TS = trainer.method.relationship_TS
    assert torch.allclose(matrix_TS.sum(1), torch.ones(len(matrix_TS)), atol=1e-4)
    assert torch.equal(matrix_TS[1], matrix_TS[2])
    assert not torch.allclose(matrix_TS[1], matrix_TS[3], atol=1e-3)


def test_guessing_finds_no_entity() -> None:
    """Chance, by which trials at chance are known: every word outside."""
    task = task_of(spec_of())
    assert chance(METRICS["entity_f1"], task) == 0
    assert chance(METRICS["accuracy"], task) == pytest.approx(100 * (task.val.labels_N == 0).double().mean().item())


def test_texts_are_not_compiled() -> None:
    """Each length would be compiled anew: refused before anything is trained."""
    with pytest.raises(UserError, match="batches of sentences differ in length"):
        check_backbone(spec_of(train={"compile": True}))


def test_too_long_for_the_backbone() -> None:
    """Positions that the encoder does not have are refused before anything is trained."""
    spec = spec_of()
    long = TrainingSpec(**{**spec.to_json(), "task_config": spec.task_config | {"max_length": 65}})
    with pytest.raises(UserError, match=r"tiny_bert cannot train on batches of 2 of task\.max_length = 65"):
        check_backbone(long)
