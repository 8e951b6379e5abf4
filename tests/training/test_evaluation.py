"""Accuracy and loss of a split: every image counts once, in float32, and nothing of the training moves."""

import pytest
import torch
from torch import nn

from cotuning_tune.training.job import make_trainer
from tests.training.test_trainer import spec_of, watched_trainer


def test_evaluation_counts_every_image():
    """Accuracy and loss are those of all images of a split at once; batches leave no trace."""
    trainer = watched_trainer(70, batch_size=5)
    trainer.train_epoch()
    result = trainer.evaluate(trainer.task.train)
    images, labels = next(trainer.task.plain_batches(trainer.task.train, 1000))
    with torch.no_grad():
        logits = trainer.model.eval()(images).logits
    hits = int((logits.argmax(1) == labels).sum())
    assert result.count == len(trainer.task.train) == 140
    assert 0 < hits < 140
    assert result.value == 100 * hits / 140
    assert result.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


def test_evaluation_is_in_float32_whatever_trains():
    """A model that trains in bfloat16 is evaluated like its equal that trains in float32, bit for bit."""
    coarse, exact = (make_trainer(spec_of(precision=precision)) for precision in ("bf16", "float32"))
    coarse.train_epoch()
    exact.train_epoch()
    assert not torch.equal(coarse.model.head.weight, exact.model.head.weight)
    exact.model.load_state_dict(coarse.model.state_dict())
    for trainer in (coarse, exact):
        trainer.model.eval()
    stored = exact.task.val.stored(range(len(exact.task.val)))
    with torch.no_grad():
        expected = exact.model(exact.task.views.plain(stored, exact.device)[0]).logits.double()
        for trainer in (coarse, exact):
            assert torch.equal(trainer._logits(stored, "centre"), expected)
    assert coarse.evaluate(coarse.task.val) == exact.evaluate(exact.task.val)


def test_ten_crops_are_judged_by_the_sum_of_their_logits():
    """With ten crops the class with the largest sum of the ten logits counts; the loss is that of their mean."""
    trainer = watched_trainer(30, batch_size=50)
    trainer.train_epoch()
    split = trainer.task.train
    result = trainer.evaluate(split, crops="ten")
    views = trainer.task.views.crops(split.stored(range(len(split))), "ten")
    with torch.no_grad():
        logits_VNT = torch.stack([trainer.model.eval()(view).logits for view in views])
    assert len(logits_VNT) == 10
    assert result.value == 100 * (logits_VNT.sum(0).argmax(1) == split.labels_N).double().mean().item()
    assert result.loss == pytest.approx(
        nn.functional.cross_entropy(logits_VNT.mean(0), split.labels_N).item(), rel=1e-5
    )
    assert result.loss != trainer.evaluate(split).loss


def test_mean_class_accuracy():
    """Each class that has images counts alike, however many it has."""
    trainer = watched_trainer(8)
    split = trainer.task.train
    split.labels_N = torch.tensor([0] * 12 + [1] * 4)
    trainer.model.head.bias.data = torch.tensor([1e6, 0.0])
    result = trainer.evaluate(split)
    assert (result.value, result.others["mean_class_accuracy"]) == (75.0, 50.0)
    split.labels_N = torch.zeros(16, dtype=torch.int64)
    assert trainer.evaluate(split).others["mean_class_accuracy"] == 100.0


def test_evaluation_changes_nothing():
    """The epoch after an evaluation is the one that comes without it."""
    watched, plain = make_trainer(spec_of()), make_trainer(spec_of())
    for split in (watched.task.val, watched.task.train):
        watched.evaluate(split)
    assert watched.train_epoch() == plain.train_epoch()
