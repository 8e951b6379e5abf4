"""LwF: the formula of the paper, the frozen source network, and the heads that it serves."""

import math
from dataclasses import replace

import pytest
import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.methods.lwf import LearningWithoutForgetting, distillation
from cotuning_tune.models import Pretrained, TransferModel, pretrained
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob, TrainingSpec
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.state import unpacked

SMALL = {"size": 16, "resize": 16}


def spec_of(**config) -> TrainingSpec:
    return TrainingSpec(
        task="synthetic",
        rate=1.0,
        method="lwf",
        backbone="tiny_cnn",
        seed=0,
        task_config=SMALL,
        data_options={"classes": 3},
        train={"epochs": 1, "batch_size": 10, "optim/lr": 0.01},
        method_config=config,
    )


def paper_loss(new: list[float], recorded: list[float], temperature: float) -> float:
    """Equation 2 with 3 of Li & Hoiem for an image, by plain arithmetic: -sum y'_o log y'_hat, y' = y^(1/T) / sum."""

    def softened(logits: list[float]) -> list[float]:
        total = sum(math.exp(value) for value in logits)
        roots = [(math.exp(value) / total) ** (1 / temperature) for value in logits]
        return [root / sum(roots) for root in roots]

    return -sum(y * math.log(y_hat) for y, y_hat in zip(softened(recorded), softened(new), strict=True))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_the_divergence_is_the_papers_loss_less_a_constant(temperature):
    """In float64 the term is the paper's cross-entropy of softened outputs less the entropy of the recorded ones."""
    generator = torch.Generator().manual_seed(0)
    new, recorded = (3 * torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    pairs = list(zip(new.tolist(), recorded.tolist(), strict=True))
    expected = sum(paper_loss(n, r, temperature) - paper_loss(r, r, temperature) for n, r in pairs) / 4
    assert distillation(new, recorded, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_the_teacher_is_the_source_network_as_it_was():
    """After an epoch the term still compares with the source network's outputs, whose every bit is kept."""
    trainer = make_trainer(spec_of(temperature=2.0, weight=0.5))
    trainer.train_epoch()
    source = pretrained("tiny_cnn")
    for mine, theirs in ((trainer.method.teacher, source.backbone), (trainer.method.teacher_head, source.source_head)):
        assert not any(module.training for module in trainer.method.teacher.modules())
        assert not any(weights.requires_grad for weights in mine.parameters())
        assert all(torch.equal(value, mine.state_dict()[key]) for key, value in theirs.state_dict().items())
    assert not torch.equal(trainer.model.source_head.weight, source.source_head.weight)
    trainer.model.eval()
    batch = trainer.load_batch([0, 1, 2])
    outputs = trainer.model(batch.views[0])
    recorded = source.source_head(trainer.method.teacher(batch.views[0])[0])
    expected = 0.5 * distillation(trainer.model.source_head(outputs.features), recorded, 2.0)
    found = trainer.method.terms(batch, outputs, trainer.model)
    torch.testing.assert_close(found, {"distillation": expected})
    assert expected > 0


def test_nothing_is_forgotten_at_the_start():
    """With the model at its pre-trained weights, in evaluation mode, the term is zero."""
    trainer = make_trainer(spec_of())
    trainer.model.eval()
    batch = trainer.load_batch([0, 1, 2])
    term = trainer.method.terms(batch, trainer.model(batch.views[0]), trainer.model)["distillation"]
    assert abs(term.item()) < 1e-6


def test_the_source_network_is_not_written(tmp_path):
    """The state of an interrupted training leaves the source network out: it has no other state."""
    TrainingJob(spec_of(), TrialDir(tmp_path), keep_best=True).advance()
    assert unpacked(TrialDir(tmp_path).state.read_bytes())["trainer"]["method"] == {}


def lwf_of(source: Pretrained) -> LearningWithoutForgetting:
    task = open_task("synthetic", 1.0, TaskConfig(size=16, resize=16))
    model = TransferModel(source, task.num_classes, torch.Generator())
    return LearningWithoutForgetting(LearningWithoutForgetting.Config(), model, task)


def test_a_head_without_training_is_refused(caplog):
    """A head that was not trained with its backbone has nothing to forget; random weights are warned of."""
    source = replace(pretrained("tiny_cnn"), is_random=False)
    with pytest.raises(UserError, match="lwf needs the head that the backbone was trained with"):
        lwf_of(source).check(source)
    random = pretrained("tiny_cnn")
    lwf_of(random).check(random)
    assert caplog.messages == ["lwf: the weights of tiny_cnn are random, its head knows no classes"]
