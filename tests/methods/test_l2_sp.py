"""L2-SP as a method: what its starting point is, and what becomes of it in an interrupted training."""

import pytest
import torch
from torch import Tensor

from cotuning_tune.methods.l2_sp import L2SP
from cotuning_tune.models import pretrained
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob, TrainingSpec
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.state import unpacked


def spec_of(method: str = "l2_sp", **train) -> TrainingSpec:
    data = {"task_config": {"size": 32, "resize": 36}, "data_options": {"classes": 3}}
    data["train"] = {"epochs": 2, "batch_size": 10, "optim/lr": 0.01, **train}
    return TrainingSpec(task="synthetic", rate=1.0, method=method, backbone="tiny_cnn", seed=0, **data)


def start_of(method: L2SP) -> list[Tensor]:
    return [value for name, value in method.named_buffers() if name.startswith("start.")]


def pretrained_weights() -> list[Tensor]:
    """The convolutions' weights of the pre-trained backbone."""
    return [p for name, p in pretrained("tiny_cnn").backbone.named_parameters() if name.endswith(".0.weight")]


def assert_starts_at_the_pretrained_weights(method: L2SP) -> None:
    expected = pretrained_weights()
    assert len(expected) == 3
    for found, weights in zip(start_of(method), expected, strict=True):
        assert torch.equal(found, weights)


def test_the_start_is_the_pretrained_weights():
    """Three convolutions are held to their pre-trained weights; no bias and no normalisation layer is."""
    assert_starts_at_the_pretrained_weights(make_trainer(spec_of()).method)


def test_the_start_does_not_move():
    """Training moves the backbone and leaves the starting point where it was."""
    trainer = make_trainer(spec_of())
    trainer.train_epoch()
    assert_starts_at_the_pretrained_weights(trainer.method)
    assert not torch.equal(trainer.model.backbone.chain[0][0].weight, pretrained_weights()[0])


def test_terms_are_the_two_penalties_of_the_paper():
    """Weights 0.1 from their start cost alpha/2 times 0.01 each, head weights of 2 beta/2 times 4."""
    trainer = make_trainer(spec_of())
    with torch.no_grad():
        for weights in trainer.model.backbone.parameters():
            weights += 0.1
        trainer.model.head.weight.fill_(2.0)
    batch = trainer.load_batch([0, 1])
    terms = trainer.method.terms(batch, trainer.model(batch.views[0]), trainer.model)
    count = sum(p.numel() for p in pretrained_weights())
    assert terms["distance"].item() == pytest.approx(0.01 / 2 * 0.01 * count, rel=1e-4)
    assert terms["head_norm"].item() == pytest.approx(0.01 / 2 * 4.0 * 64 * 3, rel=1e-5)


@pytest.mark.parametrize(("method", "decay"), [("l2_sp", 0.0), ("delta", 0.0), ("spd", 0.0), ("fine_tune", 0.125)])
def test_its_own_penalty_replaces_weight_decay(method, decay):
    """The optimiser's weight decay is zero for a method with a penalty of its own, as asked for others."""
    trainer = make_trainer(spec_of(method, **{"optim/weight_decay": 0.125}))
    assert {group["weight_decay"] for group in trainer.optimiser.param_groups} == {decay}


def test_the_start_is_not_written_but_restored(tmp_path):
    """The state of an interrupted training lacks the starting point; the resumed one has it all the same."""
    TrainingJob(spec_of(), TrialDir(tmp_path)).advance()
    state = unpacked(TrialDir(tmp_path).state.read_bytes())
    assert state["trainer"]["method"] == {}
    assert_starts_at_the_pretrained_weights(TrainingJob(spec_of(), TrialDir(tmp_path)).trainer.method)
