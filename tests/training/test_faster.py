"""Cheaper steps: float16 with a scaled loss, and compiled networks; the training is the same but for rounding."""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import parse
from cotuning_tune.search.checks import check_studies
from cotuning_tune.training import Trainer
from cotuning_tune.training.job import check_compiler, make_trainer
from tests.training.test_dropped import TEXT
from tests.training.test_trainer import copied, spec_of

HUGE = 2.0**100  # a scale at which every gradient in float16 overflows
COMPILES = TEXT.replace("drop_path = DROPS", "compile = [false, true]")


def trained_weights(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters() if parameter.requires_grad]


def test_float16_trains_as_float32_does() -> None:
    """The losses differ by its rounding, the scale leaves no trace in them; validation is in float32."""
    rows = [make_trainer(spec_of(precision=precision)).train_epoch() for precision in ("fp16", "float32")]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=5e-3)
    assert rows[0]["loss"] != rows[1]["loss"]


def test_a_gradient_is_clipped_without_its_scale() -> None:
    """The norm that no gradient may exceed is that of the loss itself."""
    trainer = make_trainer(spec_of(precision="fp16", **{"optim/clip_norm": 1e-3}))
    trainer.train_step(trainer.load_batch(list(range(10))))
    norms = [p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(1e-3, rel=1e-2)
    assert trainer.scaler.get_scale() > 1


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_step_that_overflows_counts_and_changes_nothing(clip: float) -> None:
    """The scale is halved, the schedule goes on; a training that continues has the scale that was reached."""
    spec = spec_of(precision="fp16", **{"optim/clip_norm": clip})
    trainer = make_trainer(spec)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=HUGE)
    before = trained_weights(trainer)
    trainer.train_epoch()
    assert trainer.step == trainer.batches
    assert all(value.equal(now) for value, now in zip(before, trained_weights(trainer), strict=True))
    assert trainer.scaler.get_scale() == HUGE / 2**trainer.step
    second = make_trainer(spec, setup=False)
    state = copied(trainer.state_dict())
    state["scaler"]["scale"] = 1024.0
    second.load_state_dict(state)
    assert second.scaler.get_scale() == 1024.0
    second.train_epoch()
    assert not any(value.equal(now) for value, now in zip(before, trained_weights(second), strict=True))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """What torch.compile was given, which runs as it is: no compiler is needed."""
    found: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    return found


def test_a_compiled_training_is_the_same(graphs: list[torch.fx.GraphModule]) -> None:
    """One graph of the whole network, whose maps are those of each step; every number, weight and name is the same."""
    found = []
    for compiles in (False, True):
        trainer = make_trainer(spec_of("delta", compile=compiles, ema=0.9))
        rows = [trainer.train_epoch() for _ in range(2)]
        found.append((rows, trainer.evaluate(trainer.task.val), copied(trainer.state_dict())))
    assert len(graphs) == 1
    (eager, judged, state), (compiled, judged_too, state_too) = found
    for row, row_too in zip(eager, compiled, strict=True):
        assert row_too == pytest.approx(row, rel=1e-5)
    assert judged_too.loss == pytest.approx(judged.loss, rel=1e-5)
    for part in ("model", "averaged", "method"):
        assert list(state[part]) == list(state_too[part])
    for name, value in state["averaged"].items():
        torch.testing.assert_close(state_too["averaged"][name], value)


def test_the_next_training_of_a_process_is_compiled_too(graphs: list[torch.fx.GraphModule]) -> None:
    """A worker trains many trials, more than torch compiles one function for."""
    with torch._dynamo.config.patch(recompile_limit=2):  # type: ignore[attr-defined]
        for _ in range(4):
            trainer = make_trainer(spec_of(compile=True))
            trainer.losses(trainer.load_batch([0, 1]))
    assert len(graphs) == 4


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line with the key, before anything runs, also where it may be drawn alone."""

    def fails(*_: object) -> None:
        raise RuntimeError("no working compiler found\nin any place")

    monkeypatch.setattr(torch, "compile", lambda _function: fails)
    check_compiler.cache_clear()
    with pytest.raises(UserError) as refused:
        check_studies(parse(COMPILES, "compiles"))
    assert refused.value.key == "train.compile"
    assert str(refused.value) == (
        "torch.compile does not work here (no working compiler found): leave train.compile out"
    )


@pytest.mark.proof
@pytest.mark.skipif(not shutil.which("g++"), reason="NOT TESTED: torch's own compiler; needs g++")
def test_torchs_own_compiler() -> None:
    """What it makes of the network trains as the network does, but for rounding."""
    check_compiler.cache_clear()
    assert check_studies(parse(COMPILES, "compiles"))
    rows = [make_trainer(spec_of(compile=compiles)).train_epoch() for compiles in (False, True)]
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
