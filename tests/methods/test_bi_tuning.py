"""Bi-tuning in training: what enters the queues, and how the key encoder follows. Its terms: see test_golden."""

import pytest
import torch
from torch import Tensor

from cotuning_tune.base.errors import UserError
from cotuning_tune.methods.bi_tuning import BiTuning, enqueued
from cotuning_tune.testing import trainer_of
from cotuning_tune.training import Trainer

BATCH = list(range(8))


def one_by_one(queue_XTK: Tensor, keys_BX: Tensor, labels_B: Tensor, next_T: Tensor) -> Tensor:
    """The queues after one image at a time, as the authors fill them."""
    queue_XTK, next_T = queue_XTK.clone(), next_T.clone()
    for key, label in zip(keys_BX, labels_B.tolist(), strict=True):
        queue_XTK[:, label, next_T[label]] = key
        next_T[label] = (next_T[label] + 1) % queue_XTK.shape[2]
    return queue_XTK


@pytest.mark.parametrize("size", [2, 3, 40])
def test_queues_are_filled_as_one_by_one(size: int) -> None:
    """In turn, round their end, and where a batch has more images of a class than its queue keys."""
    torch.manual_seed(0)
    queue, keys, labels = torch.randn(5, 3, size), torch.randn(9, 5), torch.tensor([0, 2, 2, 2, 0, 2, 2, 2, 2])
    start = torch.tensor([1, 0, size - 1])
    assert enqueued(queue, keys, labels, start).equal(one_by_one(queue, keys, labels, start))


def stepped(**train) -> tuple[Trainer, dict[str, Tensor], Tensor]:
    """A trainer after one step, its method's state before, and the labels of the batch."""
    trainer = trainer_of("bi_tuning", config={"keys": 4, "momentum": 0.75}, **{"optim/lr": 0.01, **train})
    trainer._train_mode()
    before = {key: value.clone() for key, value in trainer.method.state_dict().items()}
    batch = trainer.load_batch(BATCH)
    trainer.train_step(batch)
    return trainer, before, batch.labels


def test_the_key_encoder_follows() -> None:
    """After a step its weights are three quarters what they were, a quarter what the backbone's and projector's are."""
    trainer, before, _ = stepped()
    after = trainer.method.state_dict()
    for kind, module in (("key_backbone", trainer.model.backbone), ("key_projector", trainer.method.projector)):
        for name, query in module.named_parameters():
            key = f"{kind}.{name}"
            torch.testing.assert_close(after[key], 0.75 * before[key] + 0.25 * query)
            assert not after[key].equal(before[key])


def test_keys_of_the_second_view_enter_the_queues() -> None:
    """As many of each class as the batch has images of it, of the key encoder before the step; of length 1."""
    trainer, before, labels = stepped()
    fresh = trainer_of("bi_tuning", config={"keys": 4, "momentum": 0.75})
    fresh._train_mode()
    h_BF, z_BZ = fresh.method._keys(fresh.load_batch(BATCH).views[1], fresh.model)
    after = trainer.method.state_dict()
    zeros = torch.zeros(3, dtype=torch.int64)
    for name, keys in (("queue_FTK", h_BF), ("queue_ZTK", z_BZ)):
        torch.testing.assert_close(after[name], one_by_one(before[name], keys, labels, zeros))
        torch.testing.assert_close(after[name].norm(dim=0), torch.ones(3, 4))
    assert after["next_T"].equal(torch.bincount(labels, minlength=3) % 4)


@pytest.mark.parametrize(("train", "passes"), [({"mixup": 0.5}, 2), ({"parts": 3}, 1)])
def test_keys_of_mixed_images_and_of_parts(train: dict[str, object], passes: int) -> None:
    """Of mixed images they enter the queues of both labels, of parts once; the encoder moves once a step."""
    trainer, before, labels = stepped(**train)
    assert trainer.method.next_T.equal(passes * torch.bincount(labels, minlength=3) % 4)
    assert trainer.method.arrived == []
    name, query = next(iter(trainer.model.backbone.named_parameters()))
    key = f"key_backbone.{name}"
    torch.testing.assert_close(trainer.method.state_dict()[key], 0.75 * before[key] + 0.25 * query)


def test_the_key_encoder_is_in_the_mode_of_the_backbone() -> None:
    """Where normalisation is frozen its statistics stay the pre-trained ones; else they move, with the key's images."""
    for kind, moves in (("frozen", False), ("train", True)):
        trainer, before, _ = stepped(batch_norm=kind)
        after = trainer.method.state_dict()
        statistics = [key for key in before if key.endswith("running_mean")]
        assert statistics
        assert all(after[key].equal(before[key]) is not moves for key in statistics)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"momentum": 1.5}, "methods.bi_tuning.momentum = 1.5: from 0 to 1 is needed"),
        ({"keys": 0}, "methods.bi_tuning.keys = 0: at least 1 is needed"),
        ({"temperature": 0.0}, "methods.bi_tuning.temperature = 0.0: at least 0.001 is needed"),
    ],
)
def test_values_that_mean_nothing(config: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as refused:
        BiTuning.Config(**config)
    assert str(refused.value) == words
