"""DELTA as a method: its channel attention, and the source network that it compares with."""

import copy

import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Task, TaskConfig, open_task
from cotuning_tune.methods import Preparation, _channel_attention
from cotuning_tune.methods._channel_attention import _evenly as evenly
from cotuning_tune.methods._channel_attention import attention_of, channel_attention, train_head
from cotuning_tune.methods.delta import Delta
from cotuning_tune.models import Backbone, Pretrained, TransferModel, pretrained
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob, TrainingSpec
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.state import unpacked


def spec_of(**config) -> TrainingSpec:
    data = {"task_config": {"size": 32, "resize": 36}, "data_options": {"classes": 3}}
    own = {"train": {"epochs": 2, "batch_size": 10, "optim/lr": 0.01}, "method_config": config}
    return TrainingSpec(task="synthetic", rate=1.0, method="delta", backbone="tiny_cnn", seed=0, **data, **own)


def task_of(**options) -> Task:
    return open_task("synthetic", 1.0, TaskConfig(size=32, resize=36), {"classes": 3, **options})


@torch.no_grad()
def slow_importance(preparation: Preparation, stage: str, places: list[int]) -> Tensor:
    """The loss with one filter of a stage set to zero, less that of the whole network; channel by channel."""
    task, backbone = preparation.task, copy.deepcopy(preparation.source.backbone).eval()
    images, labels = next(task.plain_batches(task.train, len(task.train)))
    head = train_head(backbone(images)[0], labels, task.num_classes)
    images, labels = images[places], labels[places]

    def loss() -> Tensor:
        return nn.functional.cross_entropy(head(backbone(images)[0]), labels)

    whole, filters, rises = loss(), backbone.tap(stage).weight, []
    for channel in range(len(filters)):
        kept = filters[channel].clone()
        filters[channel] = 0.0
        rises.append(loss() - whole)
        filters[channel] = kept
    return torch.stack(rises)


@pytest.fixture(scope="module", params=[12, 40], ids=["all images", "some images"])
def preparation(request) -> Preparation:
    """A task whose images are all looked at, and one of 96 training images, of which 64 are."""
    task = task_of(images=request.param)
    return Preparation(task, pretrained("tiny_cnn"), torch.device("cpu"), batch_size=7)


@pytest.fixture(scope="module")
def attention(preparation) -> dict[str, Tensor]:
    return channel_attention(preparation)


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_attention_follows_the_loss_without_each_channel(preparation, attention, stage):
    """Attention is that of a plain loop which zeroes one filter after the other in the whole network."""
    rises = slow_importance(preparation, stage, evenly(preparation.task.train.labels_N, 64))
    scores = (rises - rises.mean()) / rises.std(unbiased=False)
    expected = (scores / 5).exp() / (scores / 5).exp().sum()
    assert expected.max() > 1.1 * expected.min()
    torch.testing.assert_close(attention[stage], expected, rtol=1e-3, atol=0)


def test_images_are_taken_from_the_classes_in_turn():
    """Of more images than are looked at, each class gives one, then a second, and so on."""
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    assert [evenly(labels, count) for count in (3, 4, 6, 9)] == [
        [0, 4, 6],
        [0, 1, 4, 6],
        [0, 1, 2, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6],
    ]


def test_no_class_is_left_out(monkeypatch):
    """Of more classes than images are looked at each gives one; they are computed on in parts, with the same result."""
    preparation = Preparation(task_of(classes=5, images=4), pretrained("tiny_cnn"), torch.device("cpu"))
    places = evenly(preparation.task.train.labels_N, 5)
    assert preparation.task.train.labels_N[places].tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(_channel_attention, "IMAGES", 3)
    monkeypatch.setattr(_channel_attention, "GROUP", 2)
    expected = attention_of(slow_importance(preparation, "stage2", places))
    assert expected.max() > 1.1 * expected.min()
    torch.testing.assert_close(channel_attention(preparation)["stage2"], expected, rtol=1e-3, atol=0)


def test_attention_of_a_stage_sums_to_one(attention):
    """The channels of each stage share an attention of one."""
    assert [(stage, len(shares)) for stage, shares in attention.items()] == [
        ("stage1", 16),
        ("stage2", 32),
        ("stage3", 64),
    ]
    for shares in attention.values():
        assert shares.sum().item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_equal_importance_gives_equal_attention(value):
    """Where all channels matter alike, all get the same share."""
    torch.testing.assert_close(attention_of(torch.full((7,), value)), torch.full((7,), 1 / 7))


def test_setup_takes_the_measured_attention():
    """After setup the method holds the channel attention of its task; switched off, all channels alike."""
    source = pretrained("tiny_cnn")
    expected = channel_attention(Preparation(task_of(), source, torch.device("cpu")))
    measured, off = make_trainer(spec_of()).method, make_trainer(spec_of(attention=False)).method
    for stage, shares in expected.items():
        torch.testing.assert_close(measured.get_buffer(f"attention_{stage}"), shares, rtol=1e-4, atol=0)
        assert off.get_buffer(f"attention_{stage}").unique().tolist() == [1 / len(shares)]


def test_the_source_network_stays_as_it_is():
    """While the model trains, the source network is in evaluation mode, frozen, and keeps every bit."""
    trainer = make_trainer(spec_of())
    trainer.train_epoch()
    teacher, source = trainer.method.teacher, pretrained("tiny_cnn").backbone
    assert trainer.model.backbone.training
    assert not any(module.training for module in teacher.modules())
    assert not any(weights.requires_grad for weights in teacher.parameters())
    for name, value in source.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], value), name
    assert not torch.equal(trainer.model.backbone.chain[0][0].weight, source.chain[0][0].weight)


def test_the_distance_is_zero_at_the_start():
    """With the model at its pre-trained weights every map is the source network's."""
    trainer = make_trainer(spec_of())
    batch = trainer.load_batch([0, 1, 2])
    trainer.model.eval()
    terms = trainer.method.terms(batch, trainer.model(batch.views[0]), trainer.model)
    assert terms["distance"].item() == 0.0
    assert terms["head_norm"].item() > 0.0


def test_the_source_network_is_not_written(tmp_path):
    """The state of an interrupted training holds the attention and leaves the source network out."""
    TrainingJob(spec_of(), TrialDir(tmp_path)).advance()
    written = unpacked(TrialDir(tmp_path).state.read_bytes())["trainer"]["method"]
    assert sorted(written) == ["attention_stage1", "attention_stage2", "attention_stage3"]


def test_a_backbone_without_stages_is_refused():
    """Without maps to compare there is no DELTA: one line says so."""
    chain = [nn.Flatten(), nn.Linear(3 * 8 * 8, 5)]
    flat = Pretrained("flat", Backbone(chain, {}, [0.0] * 3, [1.0] * 3), nn.Linear(5, 4))
    model = TransferModel(flat, 3, torch.Generator())
    with pytest.raises(UserError, match="delta compares feature maps, and this backbone has no stages"):
        Delta(Delta.Config(), model, task_of())
