"""SPD: each tensor of the backbone after a step, against the paper's formulas in numpy."""

import numpy as np
import pytest
import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.methods.spd import SelectiveProjectionDecay
from cotuning_tune.models import pretrained
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import Trainer, TrainingJob
from cotuning_tune.training.state import unpacked
from tests.methods.test_conformance import spec_of, trainer_of
from tests.training.test_trainer import copied

PINS = {"epochs": 40, "optim/lr": 0.3}


def by_formula(now: np.ndarray, before: np.ndarray, start: np.ndarray, gradient: np.ndarray, weight: float):
    """c = -g (before - start); where c < 0, now - weight * r * (now - start), r = max(0, (d - d_before) / d)."""
    if not -(gradient * (before - start)).sum() < 0:
        return now
    distance, was = np.linalg.norm(now - start), np.linalg.norm(before - start)
    return now - weight * max(0.0, (distance - was) / distance) * (now - start)


def arrays(trainer: Trainer) -> list[np.ndarray]:
    return [p.detach().double().numpy().copy() for p in trainer.model.backbone.parameters()]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_every_step_is_that_of_the_formula(optimiser: str) -> None:
    """Beside the same step without projection: of some tensors projected, of others not; never of the head."""
    pins = {**PINS, "optim/name": optimiser, "optim/lr": {"sgd": 0.3, "adamw": 0.003}[optimiser]}
    own, plain = (trainer_of("spd", config={"weight": weight}, **pins) for weight in (0.7, 0.0))
    start, projected = arrays(own), 0
    for step in range(12):
        plain.load_state_dict(copied(own.state_dict()))
        before, batch = arrays(own), own.load_batch([step, *range(7)])
        plain.train_step(batch)
        own.train_step(batch)
        gradients = [p.grad.double().numpy() for p in plain.model.backbone.parameters()]
        for found, *parts in zip(arrays(own), arrays(plain), before, start, gradients, strict=True):
            expected = by_formula(*parts, weight=0.7)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            projected += not np.array_equal(expected, parts[0])
        assert own.model.head.weight.equal(plain.model.head.weight)
    assert 5 < projected < 12 * len(start) / 2


def test_gradients_are_read_before_the_step() -> None:
    """The fused step of Nesterov's momentum, the default on a GPU, writes over them: it gives the same weights."""
    one, other = (trainer_of("spd", **PINS) for _ in range(2))
    for group in other.optimiser.param_groups:
        group["foreach"] = True
    gradients = []
    for step in range(8):
        for trainer in (one, other):
            trainer.train_step(trainer.load_batch([step, *range(7)]))
        gradients.append([p.grad.clone() for p in (next(t.model.backbone.parameters()) for t in (one, other))])
    assert not all(torch.allclose(*pair) for pair in gradients)  # they were written over
    for found, expected in zip(other.model.parameters(), one.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_weight_one_goes_no_further() -> None:
    """A tensor whose gradient leads back is never further from its start than before the step; some just as far."""
    trainer = trainer_of("spd", **PINS)
    start, stopped = arrays(trainer), 0
    for step in range(12):
        before = arrays(trainer)
        trainer.train_step(trainer.load_batch([step, *range(7)]))
        gradients = [p.grad.double().numpy() for p in trainer.model.backbone.parameters()]
        for now, then, origin, gradient in zip(arrays(trainer), before, start, gradients, strict=True):
            if (gradient * (then - origin)).sum() > 0:
                distance, was = np.linalg.norm(now - origin), np.linalg.norm(then - origin)
                assert distance < was * (1 + 1e-5)
                stopped += distance > was * (1 - 1e-5)
    assert stopped > 5


def test_the_start_is_the_pretrained_weights_and_is_not_written(tmp_path) -> None:
    """The state of an interrupted training lacks the starting point; the resumed one has it all the same."""
    TrainingJob(spec_of("spd"), TrialDir(tmp_path)).advance()
    assert unpacked(TrialDir(tmp_path).state.read_bytes())["trainer"]["method"] == {}
    resumed = TrainingJob(spec_of("spd"), TrialDir(tmp_path)).trainer
    expected = list(pretrained("tiny_cnn").backbone.parameters())
    assert all(p.equal(q) for p, q in zip(resumed.method.start.buffers(), expected, strict=True))
    assert not all(p.equal(q) for p, q in zip(resumed.model.backbone.parameters(), expected, strict=True))


def test_a_frozen_backbone_has_nothing_to_pull_back() -> None:
    """The head learns, and no weight of the backbone moves."""
    trainer = trainer_of("spd", freeze=1.0)
    before, head = arrays(trainer), trainer.model.head.weight.clone()
    trainer.train_epoch()
    assert all(np.array_equal(one, other) for one, other in zip(arrays(trainer), before, strict=True))
    assert not trainer.model.head.weight.equal(head)


def test_a_weight_that_means_nothing() -> None:
    with pytest.raises(UserError, match=r"methods\.spd\.weight = -1\.0: at least 0 is needed"):
        SelectiveProjectionDecay.Config(weight=-1.0)
