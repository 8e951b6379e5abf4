"""Co-tuning as a method: where its relationship comes from, and what is trained."""

import copy
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Split, Task, TaskConfig, open_task
from cotuning_tune.methods import Preparation
from cotuning_tune.methods.co_tuning import CoTuning, _say_once
from cotuning_tune.models import Pretrained, TransferModel, pretrained, source_class_names
from cotuning_tune.models.images import tiny_cnn
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import make_trainer


@dataclass(frozen=True)
class Watched(Preparation):
    """A preparation that notes which splits the source network was run on."""

    seen: list[Split] = field(default_factory=list)

    def source_logits(self, split: Split) -> Tensor:
        self.seen.append(split)
        return super().source_logits(split)


def task_of(**options) -> Task:
    return open_task("synthetic", 1.0, TaskConfig(size=32, resize=36), {"classes": 3, **options})


def set_up(task: Task, source: Pretrained, **config) -> tuple[Tensor, list[Split]]:
    """The relationship that setup leaves, and the splits that it ran the source network on."""
    model = TransferModel(source, task.num_classes, torch.Generator())
    method = CoTuning(CoTuning.Config(**config), model, task)
    preparation = Watched(task, source, torch.device("cpu"))
    method.setup(preparation)
    return method.relationship_TS, preparation.seen


def other_weights() -> Pretrained:
    """A source network like tiny_cnn, one weight apart."""
    source = tiny_cnn.build("tiny_cnn", "")
    with torch.no_grad():
        source.source_head.weight[0, 0] += 1.0
    return source


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """An empty cache of this test's own."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path))
    return tmp_path


def relationships() -> int:
    """How many relationships the cache holds."""
    return len(list(cache_root().glob("relationship/*.npz")))


def test_the_relationship_is_learned_once(own_cache):
    """The second trial of a task runs nothing through the source network and has the same matrix."""
    task, source = task_of(), pretrained("tiny_cnn")
    first, seen = set_up(task, source)
    assert [split is part for split, part in zip(seen, (task.train, task.val), strict=True)] == [True, True]
    second, seen_again = set_up(task_of(), source)
    assert seen_again == []
    assert torch.equal(first, second)
    assert relationships() == 1


@pytest.mark.parametrize(
    ("options", "other_source", "config"),
    [
        ({"seed": 1}, False, {}),
        ({"images": 11}, False, {}),
        ({}, True, {}),
        ({}, False, {"temperature": 1.5}),
        ({}, False, {"approach": "direct"}),
        ({}, False, {"calibrated": False}),
        ({}, False, {"source_marginal": "uniform"}),
    ],
    ids=["images", "size", "weights", "temperature", "approach", "calibrated", "source_marginal"],
)
def test_the_cache_is_keyed_by_content(own_cache, options, other_source, config):
    """Another task, other weights or another setting is another relationship, never the cached one."""
    source = pretrained("tiny_cnn")
    first, _ = set_up(task_of(), source)
    other, seen = set_up(task_of(**options), other_weights() if other_source else source, **config)
    assert len(seen) == 2
    assert relationships() == 2
    assert not torch.equal(first, other)


@pytest.mark.parametrize("approach", ["reverse", "direct"])
def test_each_target_class_has_a_distribution(approach):
    """Every row is a distribution over the source classes, and the classes differ."""
    relationship, _ = set_up(task_of(), pretrained("tiny_cnn"), approach=approach)
    assert relationship.shape == (3, tiny_cnn.SOURCE_CLASSES)
    assert (relationship >= 0).all()
    torch.testing.assert_close(relationship.sum(1), torch.ones(3), rtol=0, atol=1e-6)
    assert torch.cdist(relationship, relationship).triu(1).count_nonzero() == 3


def test_the_target_of_an_image_is_its_class_row():
    """The term is lambda times the mean of ``-sum_s p(s | y) log q(s)`` over the batch, by plain loops."""
    trainer = make_trainer(spec_of("co_tuning"))
    trainer.model.eval()
    batch = trainer.load_batch([0, 1, 2, 3])
    outputs = trainer.model(batch.views[0])
    term = trainer.method.terms(batch, outputs, trainer.model)["co_tuning"]
    expected = 0.0
    for features, label in zip(outputs.features, batch.labels, strict=True):
        q = trainer.model.source_head(features).softmax(0)
        expected -= sum(p * q[s].log() for s, p in enumerate(trainer.method.relationship_TS[label]))
    torch.testing.assert_close(term, 2.3 * expected / 4)


def spec_of(method: str) -> TrainingSpec:
    data = {"task_config": {"size": 32, "resize": 36}, "data_options": {"classes": 3}}
    train = {"epochs": 1, "batch_size": 10}
    return TrainingSpec(task="synthetic", rate=1.0, method=method, backbone="tiny_cnn", seed=0, train=train, **data)


@pytest.mark.parametrize(("method", "trained"), [("co_tuning", True), ("fine_tune", False)])
def test_the_source_head_is_trained(method, trained):
    """Co-tuning trains the source head at the backbone's learning rate; plain fine-tuning leaves it alone."""
    trainer = make_trainer(spec_of(method))
    trainer.train_epoch()
    head = trainer.model.source_head
    rates = [g["base_lr"] for g in trainer.optimiser.param_groups if g["params"][0] is head.weight]
    assert rates == ([1e-3] if trained else [])
    assert torch.equal(head.weight, pretrained("tiny_cnn").source_head.weight) != trained


def test_a_head_without_training_is_refused():
    """A head that was not trained with its backbone is refused, with the reason that its file gives."""
    source = replace(pretrained("tiny_cnn"), is_random=False, note="m.pth is a MoCo file")
    method = CoTuning(CoTuning.Config(), TransferModel(source, 3, torch.Generator()), task_of())
    message = r"co_tuning needs the head that the backbone was trained with \(m.pth is a MoCo file\)"
    with pytest.raises(UserError, match=message):
        method.check(source)


def test_random_weights_are_warned_of(caplog):
    """Random weights are the user's own choice: they are served, and the log says what they are worth."""
    source = replace(pretrained("tiny_cnn"), temperature=None)
    CoTuning(CoTuning.Config(), TransferModel(source, 3, torch.Generator()), task_of()).check(source)
    assert caplog.messages == ["co_tuning: the weights of tiny_cnn are random, its head knows no classes"]


def test_a_temperature_that_nothing_reads_is_refused():
    """Without calibration there is no temperature to give."""
    with pytest.raises(UserError, match=r"counts with methods\.co_tuning\.calibrated = true alone"):
        CoTuning.Config(temperature=1.5, calibrated=False)


def test_an_unknown_temperature_is_said(caplog):
    """Without a published temperature 1 is taken, and the log says so once; a given one is taken silently."""
    _say_once.cache_clear()
    source = replace(pretrained("tiny_cnn"), head_is_trained=True, is_random=False, temperature=None)
    model = TransferModel(source, 3, torch.Generator())
    CoTuning(CoTuning.Config(temperature=1.2), model, task_of()).check(source)
    assert caplog.messages == []
    for _ in range(2):
        CoTuning(CoTuning.Config(), model, task_of()).check(source)
    (line,) = caplog.messages
    assert line.startswith("co_tuning trusts the class probabilities of tiny_cnn as they are")


def test_setup_opens_no_test_split(own_cache, monkeypatch):
    """The relationship is learned without the test split."""

    def refuse(_task: Task) -> Split:
        raise AssertionError("the test split was opened")

    monkeypatch.setattr(Task, "open_test", refuse)
    assert len(set_up(task_of(), pretrained("tiny_cnn"))[1]) == 2


def test_setup_needs_no_gradients(own_cache):
    """The source network runs without gradients and in evaluation mode, and keeps its statistics."""
    source, modes = tiny_cnn.build("tiny_cnn", ""), []
    before = copy.deepcopy(source.backbone.state_dict())

    def note(module: nn.Module, _inputs: object) -> None:
        modes.append((torch.is_grad_enabled(), module.training))

    source.backbone.train().register_forward_pre_hook(note)
    relationship, _ = set_up(task_of(), source)
    assert set(modes) == {(False, False)}
    assert not relationship.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in source.backbone.state_dict().items())


def test_the_summary_names_the_likeliest_source_classes(own_cache) -> None:
    """Five source classes for each target class, the likeliest first, with the matrix's own probabilities."""
    task, source = task_of(), tiny_cnn.build("tiny_cnn", "")
    method = CoTuning(CoTuning.Config(), TransferModel(source, task.num_classes, torch.Generator()), task)
    method.setup(Preparation(task, source, torch.device("cpu")))
    related = method.summary(task)["related"]
    assert [row["target"] for row in related] == list(task.class_names)
    for row, probabilities_S in zip(related, method.relationship_TS, strict=True):
        shown = [one["probability"] for one in row["source"]]
        assert shown == sorted(probabilities_S.tolist(), reverse=True)[:5]
        assert row["source"][0]["name"] == f"class {int(probabilities_S.argmax())}"


def test_source_classes_are_named() -> None:
    """A head of 1000 classes has ImageNet's names, any other one numbers."""
    assert source_class_names(1000)[1] == "goldfish"
    assert source_class_names(3) == ["class 0", "class 1", "class 2"]
