"""What every method must do, whatever it computes: each file of the methods folder is found and tested, and two pairs.

A method is tried with its published defaults on tiny_cnn and twenty-four synthetic images.
"""

import copy
import doctest
import importlib
import json
import math

import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import TrainingFailed
from cotuning_tune.base.seeding import seed_all
from cotuning_tune.hyper import build, convert, default_of, fields_of, to_flat
from cotuning_tune.methods import Batch, method, names
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import Trainer, TrainingJob, TrainingSpec
from cotuning_tune.training.job import make_trainer

COMBINED = ["stoch_norm+co_tuning", "bss+l2_sp"]
pytestmark = pytest.mark.parametrize("name", [*names(), *COMBINED])

MEASURED = {"ce", "loss", "accuracy", "lr"}  # what the loop logs under these names itself
CLOCK = {"seconds", "time"}


def spec_of(name: str, *, config: dict | None = None, images: int = 10, seed: int = 0, **train) -> TrainingSpec:
    """A training of three batches an epoch: 3 classes of ``images``, a fifth of them for validation."""
    return TrainingSpec(
        task="synthetic",
        rate=1.0,
        method=name,
        backbone="tiny_cnn",
        seed=seed,
        task_config={"size": 32, "resize": 36, "min_scale": 0.5},
        data_options={"classes": 3, "images": images},
        train={"epochs": 2, "batch_size": 8, **train},
        method_config=config or {},
    )


def trainer_of(name: str, **options) -> Trainer:
    """A trainer in training mode, before its first step."""
    trainer = make_trainer(spec_of(name, **options))
    trainer.model.train()
    trainer.method.train()
    return trainer


def move(model: nn.Module) -> None:
    """Take every weight a little away from where it is."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.05 * torch.randn(weights.shape, generator=generator, dtype=torch.float64)


def terms_of(trainer: Trainer, batch: Batch) -> dict[str, Tensor]:
    """All terms of the loss, from a copy of model and method: a queue that moves on changes nothing here."""
    kept = trainer.model, trainer.method
    trainer.model, trainer.method = copy.deepcopy(kept)
    seed_all(0)
    try:
        return trainer.losses(batch)[0]
    finally:
        trainer.model, trainer.method = kept


def neutral_values(name: str) -> dict[str, object]:
    """Every trade-off weight of a method at the value where its effect vanishes."""
    metadata = {key: item.metadata for key, (item, _) in fields_of(method(name).Config).items()}
    return {key: found["neutral"] for key, found in metadata.items() if found.get("neutral") is not None}


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    """Equal bit for bit, buffers included."""
    theirs = other.state_dict()
    for key, value in one.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def without_clock(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in history]


def tensors_in(value: object) -> bool:
    """Whether a plain attribute holds a tensor, in containers too."""
    if isinstance(value, dict):
        return any(map(tensors_in, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(tensors_in, value))
    return isinstance(value, Tensor)


def test_terms_are_finite_scalars(name):
    """A term is one finite number under a name that the loop does not use itself."""
    trainer = trainer_of(name)
    batch = trainer.load_batch(list(range(8)))
    terms = trainer.method.terms(batch, trainer.model(batch.views[0]), trainer.model)
    assert not terms.keys() & MEASURED
    for term, value in terms.items():
        assert value.shape == (), term
        assert math.isfinite(value.item()), term


def test_who_reads_labels_says_so(name):
    """Other labels change the terms of a method exactly where ``reads_labels`` says it: mixed images rely on that."""
    trainer = trainer_of(name)
    batch = trainer.load_batch(list(range(8)))
    found = [terms_of(trainer, batch._replace(labels=labels)) for labels in (batch.labels, (batch.labels + 1) % 3)]
    own = [{key: term.item() for key, term in terms.items() if key != "ce"} for terms in found]
    assert (own[0] != own[1]) == method(name).reads_labels


def test_switched_off_it_is_plain_fine_tuning(name):
    """With every trade-off weight off, two epochs end at plain fine-tuning's weights and logits.

    What has none is another way of training, and says so.
    """
    if method(name).variant:
        assert neutral_values(name) == {}
        return
    pins = {"optim/weight_decay": 0.0, "optim/lr": 0.01}
    off, plain = trainer_of(name, config=neutral_values(name), **pins), trainer_of("fine_tune", **pins)
    for trainer in (off, plain):
        trainer.train_epoch()
        trainer.train_epoch()
        trainer.model.eval()
    assert_same_weights(off.model.backbone, plain.model.backbone)
    assert_same_weights(off.model.head, plain.model.head)
    images = next(plain.task.plain_batches(plain.task.val, 64))[0]
    assert torch.equal(off.model(images).logits, plain.model(images).logits)


def test_terms_reach_the_backbone(name):
    """Every term has a gradient somewhere, and one of the method's own has one in the backbone."""
    trainer = trainer_of(name)
    move(trainer.model)
    terms, _ = trainer.losses(trainer.load_batch(list(range(8))))
    pairs = [(f"model.{key}", p) for key, p in trainer.model.named_parameters()]
    pairs += [(f"method.{key}", p) for key, p in trainer.method.named_parameters()]
    trained = {key: p for key, p in pairs if p.requires_grad}
    reached = {}
    for term, value in terms.items():
        found = torch.autograd.grad(value, list(trained.values()), retain_graph=True, allow_unused=True)
        reached[term] = {key for key, g in zip(trained, found, strict=True) if g is not None and g.any()}
    assert all(reached.values()), reached
    own = [keys for term, keys in reached.items() if term != "ce"] or [reached["ce"]]
    assert any(key.startswith("model.backbone.") for keys in own for key in keys), reached


def test_terms_change_when_the_model_moves(name):
    """No term is a constant: each has another value once the weights have moved."""
    trainer = trainer_of(name)
    batch = trainer.load_batch(list(range(8)))
    before = terms_of(trainer, batch)
    move(trainer.model)
    after = terms_of(trainer, batch)
    assert before.keys() == after.keys()
    assert not [term for term in before if before[term].item() == after[term].item()]


def test_batch_order_does_not_matter(name):
    """The same images in another order give the same terms."""
    trainer = trainer_of(name)
    move(trainer.model)
    batch = trainer.load_batch(list(range(8)))
    order = torch.tensor([3, 1, 4, 0, 5, 7, 2, 6])
    other = Batch(tuple(view[order] for view in batch.views), batch.labels[order], batch.index[order])
    torch.testing.assert_close(terms_of(trainer, other), terms_of(trainer, batch), rtol=1e-4, atol=1e-6)


def test_same_seed_gives_same_losses(name):
    """Two trainings of one seed agree in each number of two epochs; one of another seed does not if anything trains."""
    one, same, other = (trainer_of(name, seed=seed) for seed in (0, 0, 1))
    rows = [[trainer.train_epoch(), trainer.train_epoch()] for trainer in (one, same, other)]
    assert rows[0] == rows[1]
    assert (rows[0] != rows[2]) == method(name).trains


def test_interrupted_equals_uninterrupted(name, tmp_path):
    """Stopped after every epoch and taken up by a new process's job, it ends at the same bits."""
    spec = spec_of(name, epochs=3, **{"optim/lr": 0.01})
    whole = TrainingJob(spec)
    for _ in range(3):
        whole.advance()
        part = TrainingJob(spec, TrialDir(tmp_path))
        part.advance()
    assert without_clock(part.history) == without_clock(whole.history)
    assert_same_weights(part.trainer.model, whole.trainer.model)
    assert_same_weights(part.trainer.method, whole.trainer.method)


def test_tensors_are_parameters_or_buffers(name):
    """After a training step no plain attribute holds a tensor: it would not move or resume."""
    trainer = trainer_of(name)
    trainer.train_step(trainer.load_batch(list(range(8))))
    registered = {"_parameters", "_buffers", "_modules"}
    loose = [
        f"{path}.{key}"
        for path, module in trainer.method.named_modules()
        for key, value in vars(module).items()
        if key not in registered and tensors_in(value)
    ]
    assert loose == []


def test_every_trained_parameter_gets_a_gradient(name):
    """What the optimiser holds is what the loss depends on."""
    trainer = trainer_of(name)
    move(trainer.model)  # at its start an adapter's product is 0, and so is one of its gradients
    trainer.train_step(trainer.load_batch(list(range(8))))
    held = {id(p) for group in trainer.optimiser.param_groups for p in group["params"]}
    model, own = trainer.model.named_parameters(), trainer.method.named_parameters()
    trained = [(key, p) for key, p in (*model, *own) if p.requires_grad]
    assert {id(p) for _, p in trained} == held
    assert [key for key, p in trained if p.grad is None or not p.grad.any()] == []


def test_overfits_twelve_images(name):
    """Twelve images are learned by heart, unless the backbone stands still."""
    pins = {"epochs": 30, "batch_size": 6, "optim/lr": 0.01}
    trainer = trainer_of(name, images=5, **pins)
    if trainer.method.still(1.0) or name == "bitfit":
        pytest.skip("random features cannot learn everything")
    if trainer.method.still(0.0):  # for a part of the time
        pins["epochs"] *= 2
        trainer = trainer_of(name, images=5, **pins)
    assert len(trainer.task.train) == 12
    for _ in range(pins["epochs"]):
        trainer.train_epoch()
    assert trainer.evaluate(trainer.task.train).value == 100.0


def test_float64_works(name):
    """In double precision the terms are doubles, and the same numbers as in single precision."""
    trainer = trainer_of(name)
    move(trainer.model)
    batch = trainer.load_batch(list(range(8)))
    single = terms_of(trainer, batch)
    trainer.model.double()
    trainer.method.double()
    double = terms_of(trainer, batch)
    assert {value.dtype for value in double.values()} == {torch.float64}
    torch.testing.assert_close(double, single, rtol=1e-3, atol=1e-5, check_dtype=False)


def test_bfloat16_autocast_works(name):
    """Under bfloat16 autocast, the default on a GPU, no term strays from single precision by a quarter."""
    single, mixed = trainer_of(name), trainer_of(name, precision="bf16")
    move(single.model)
    move(mixed.model)
    batch = single.load_batch(list(range(8)))
    expected = terms_of(single, batch)
    torch.testing.assert_close(terms_of(mixed, batch), expected, rtol=0.25, atol=1e-3, check_dtype=False)


def test_divergence_is_reported(name):
    """A training that diverges ends with TrainingFailed and its reason, not in an error of its own."""
    trainer = trainer_of(name, **{"optim/lr": 1e30})
    if not trainer.method.trains:
        pytest.skip("what does not train does not diverge")
    with pytest.raises(TrainingFailed, match="not finite in epoch 1"):
        trainer.train_epoch()


def test_default_lies_in_its_range(name):
    """Every default has its field's type and is a point of the range or choice that is searched."""
    for key, (item, hint) in fields_of(method(name).Config).items():
        default, search = default_of(item), item.metadata.get("search")
        assert convert(default, hint, key) == default
        assert search is None or search.nearest(default) == default, key


def test_config_survives_json(name):
    """The default config, and one with everything switched off, come back from JSON as they were."""
    kind = method(name).Config
    for config in (kind(), build(kind, neutral_values(name))):
        assert build(kind, json.loads(json.dumps(to_flat(config)))) == config


def test_module_has_a_doctest_that_passes(name):
    """The module shows what it computes, and that is so."""
    module = importlib.import_module(method(name).__module__)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
