"""What came after the published training: each option does what its name says, and resumes to the last bit."""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn.functional import cross_entropy

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.images._mixing import GREY, Mix, augment, draw_mix
from cotuning_tune.training import OptimConfig, TrainConfig
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.optim import class_weights, factor
from tests.training.test_trainer import copied, spec_of

EVERYTHING = {
    "optim/name": "adamw",
    "optim/layer_decay": 0.7,
    "optim/decay_all": False,
    "optim/clip_norm": 1.0,
    "schedule": "linear",
    "warmup": 0.3,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "mixup": 0.4,
    "cutmix": 1.0,
    "augment": "trivialaugment",
    "random_erasing": 0.5,
    "freeze": 0.4,
    "ema": 0.9,
    "parts": 2,
    "drop_path": 0.3,
    "dropout": 0.2,
    "precision": "fp16",
    "compile": True,
}


@pytest.mark.parametrize(
    "method", ["fine_tune", "bi_tuning", "co_tuning", "knn", "lora", "spd", "wise_ft", "gradual_unfreezing"]
)
@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.usefixtures("residual")
def test_resume_is_exact_with_everything_on(method: str, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the state of any epoch the weights, their average and the losses are those of a training never stopped."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    straight, first = (make_trainer(spec_of(method, **EVERYTHING)) for _ in range(2))
    rows = [straight.train_epoch() for _ in range(3)]
    for _ in range(after):
        first.train_epoch()
    second = make_trainer(spec_of(method, **EVERYTHING), setup=False)
    second.load_state_dict(copied(first.state_dict()))
    assert [second.train_epoch() for _ in range(3 - after)] == rows[after:]
    for name in ("model", "averaged"):
        assert all(value.equal(second.state_dict()[name][key]) for key, value in straight.state_dict()[name].items())
    assert second.evaluate(second.task.val) == straight.evaluate(straight.task.val)


def test_learning_rates_by_depth() -> None:
    """The last layer of the backbone learns at the rate itself, each one below at a constant part of the next."""
    trainer = make_trainer(spec_of(**{"optim/layer_decay": 0.5, "optim/lr": 0.08, "optim/head_lr_factor": 10.0}))
    rates = {id(p): group["lr"] for group in trainer.optimiser.param_groups for p in group["params"]}
    model = trainer.model
    assert len(model.backbone.layers) == 3
    assert [{rates[id(p)] for p in own} for own in model.backbone.layers] == [{0.02}, {0.04}, {0.08}]
    assert [rates[id(p)] for p in model.head.parameters()] == pytest.approx([0.8, 0.8])
    assert trainer.train_epoch()["lr"] == pytest.approx(0.08)


def test_no_decay_on_norms_and_biases() -> None:
    """Matrices decay, vectors do not; every trained weight is in one group."""
    trainer = make_trainer(spec_of(**{"optim/decay_all": False, "optim/weight_decay": 0.25}))
    groups = trainer.optimiser.param_groups
    found = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {(p.ndim > 1, found[id(p)]) for p in trainer.model.backbone.parameters()} == {(True, 0.25), (False, 0.0)}
    assert len(found) == sum(p.requires_grad for p in trainer.model.parameters())


def test_adamw() -> None:
    """The optimiser of that name, with its own betas."""
    optimiser = make_trainer(spec_of(**{"optim/name": "adamw", "optim/betas": [0.8, 0.95]})).optimiser
    assert isinstance(optimiser, torch.optim.AdamW)
    assert {group["betas"] for group in optimiser.param_groups} == {(0.8, 0.95)}


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [1.0] * 10),
        ("linear", 0.0, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("multistep", 0.0, [1.0] * 7 + [0.1] * 3),
        ("linear", 0.2, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("constant", 0.35, [0.25, 0.5, 0.75, 1.0, *[1.0] * 6]),
        ("cosine", 0.4, [0.25, 0.5, 0.75, 1.0, *(0.5 * (1 + math.cos(math.pi * n / 6)) for n in range(6))]),
    ],
)
def test_schedules(schedule: str, warmup: float, expected: list[float]) -> None:
    """The learning rate rises in a line, then follows the schedule over what is left."""
    assert [factor(schedule, step, 10, warmup) for step in range(10)] == pytest.approx(expected)


def test_clipping() -> None:
    """No step is taken along a longer gradient."""
    for limit in (0.0, 1e-3):
        trainer = make_trainer(spec_of(**{"optim/clip_norm": limit}))
        trainer.train_step(trainer.load_batch(list(range(10))))
        norms = [p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]
        whole = float(torch.stack(norms).norm())
        assert whole == pytest.approx(1e-3, rel=1e-3) if limit else whole > 0.01


def test_label_smoothing_and_class_weights_are_those_of_the_cross_entropy() -> None:
    """In training alone: validation compares plain cross-entropies."""
    trainer = make_trainer(spec_of(label_smoothing=0.2, class_weights="balanced"))
    batch = trainer.load_batch(list(range(10)))
    trainer.model.eval()
    logits = trainer.model(batch.views[0]).logits
    weights = class_weights("balanced", trainer.task.fit.labels_N, 3)
    expected = cross_entropy(logits, batch.labels, weights, label_smoothing=0.2)
    assert trainer.losses(batch)[0]["ce"].item() == pytest.approx(expected.item())
    plain = make_trainer(spec_of())
    assert plain.evaluate(plain.task.val) == trainer.evaluate(trainer.task.val)


def test_class_weights() -> None:
    """Balanced as scikit-learn has them; of the effective number by the formula, with the same mean over the images."""
    labels = torch.tensor([0] * 30 + [1] * 5 + [3] * 1)
    balanced, effective = (class_weights(kind, labels, 4) for kind in ("balanced", "effective"))
    assert balanced is not None
    assert effective is not None
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels.numpy())
    assert balanced[[0, 1, 3]].tolist() == pytest.approx(expected.tolist())
    numbers = [(1 - 0.999**n) / (1 - 0.999) for n in (30, 5, 1)]
    assert (effective[[0, 1, 3]] * torch.tensor(numbers)).std() < 1e-5
    for weights in (balanced, effective):
        assert weights[2] == 0
        assert weights[labels].mean().item() == pytest.approx(1)
    assert class_weights("none", labels, 4) is None


def test_frozen_layers_stand_still() -> None:
    """Their weights and statistics stay bit for bit; the layers above and the head learn."""
    trainer = make_trainer(spec_of(freeze=0.67))
    before = {name: value.clone() for name, value in trainer.model.backbone.state_dict().items()}
    trainer.train_epoch()
    after = trainer.model.backbone.state_dict()
    moved = {name.split(".")[1] for name, value in before.items() if not value.equal(after[name])}
    assert moved == {"2"}


def test_the_average_of_the_weights() -> None:
    """It is the recursion of its name, step by step, and it is what is validated and kept."""
    trainer = make_trainer(spec_of(ema=0.75))
    expected: list[Tensor] = []
    for step in range(4):
        trainer.train_step(trainer.load_batch(list(range(10))))
        now = [p.detach().clone() for p in trainer.model.parameters()]
        expected = now if not step else [0.75 * a + 0.25 * b for a, b in zip(expected, now, strict=True)]
    for found, wanted in zip(trainer.network.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    statistics = dict(trainer.model.named_buffers())
    assert all(value.equal(statistics[name]) for name, value in trainer.network.named_buffers())
    assert trainer.network is not trainer.model
    averaged = trainer.evaluate(trainer.task.val).loss
    plain = make_trainer(spec_of())
    for _ in range(4):
        plain.train_step(plain.load_batch(list(range(10))))
    assert plain.evaluate(plain.task.val).loss != averaged


def test_a_batch_in_parts_gives_the_same_gradient() -> None:
    """With statistics that stand still; the terms are the means over the whole batch."""
    found = []
    for parts in (1, 3):
        trainer = make_trainer(spec_of(parts=parts, batch_norm="frozen"))
        trainer._train_mode()
        terms, correct = trainer.train_step(trainer.load_batch(list(range(10))))
        found.append((terms["ce"].item(), int(correct), trainer.model.head.weight.grad))
    assert found[0][:2] == pytest.approx(found[1][:2])
    torch.testing.assert_close(found[0][2], found[1][2])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_of_mixup(alpha: float) -> None:
    """They are draws of the symmetric Beta distribution, by mean and variance; the same for seed and step."""
    drawn = [draw_mix(32, alpha, 0.0, 0, "mix", step) for step in range(2000)]
    shares = np.array([mix.share for mix in drawn if mix])
    assert len(shares) == 2000
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert drawn[7] == draw_mix(32, alpha, 0.0, 0, "mix", 7) != draw_mix(32, alpha, 0.0, 1, "mix", 7)


def test_shares_of_cutmix_are_those_of_the_pixels() -> None:
    """What a label counts is what its image shows, also where the box hangs over the edge."""
    plain = torch.zeros(2, 3, 20, 20, dtype=torch.uint8)
    plain[1] = 100
    for step in range(200):
        mix = draw_mix(20, 0.0, 1.0, 0, step)
        assert mix is not None
        mixed = mix.images(plain)
        assert mixed.dtype == torch.uint8
        assert (mixed[0] == 0).float().mean().item() == pytest.approx(mix.share)
        assert (mixed[1] == 100).float().mean().item() == pytest.approx(mix.share)
    both = [draw_mix(20, 1.0, 1.0, 0, step) for step in range(400)]
    assert 150 < sum(mix is not None and mix.box is None for mix in both) < 250
    assert draw_mix(20, 0.0, 0.0, 0) is None


def test_mixed_images_have_mixed_losses() -> None:
    """Every view is mixed alike; the terms that read labels are the mix of both labels' terms, the others are one."""
    trainer = make_trainer(spec_of("co_tuning", mixup=1.0))
    trainer.model.eval()
    batch, plain = trainer.load_batch(list(range(10))), make_trainer(spec_of("co_tuning")).load_batch(list(range(10)))
    share = batch.share
    assert 0 < share < 1
    mixed = share * plain.views[0].float() + (1 - share) * plain.views[0].roll(1, 0).float()
    torch.testing.assert_close(batch.views[0], mixed)
    assert batch.others is not None
    assert batch.others.equal(plain.labels.roll(1))
    own, other = (
        trainer.losses(batch._replace(labels=labels, others=None))[0] for labels in (batch.labels, batch.others)
    )
    terms, _ = trainer.losses(batch)
    assert terms.keys() == {"ce", "co_tuning"}
    for name, term in terms.items():
        assert term.item() == pytest.approx(share * own[name].item() + (1 - share) * other[name].item(), rel=1e-5)
    assert own["co_tuning"].item() != other["co_tuning"].item()


@pytest.mark.parametrize("kind", ["none", "trivialaugment", "randaugment"])
def test_augmentation_of_each_image(kind: str) -> None:
    """The same for seed and step, without a trace in the global generator; no two images of a batch alike."""
    images = torch.randint(0, 256, (1, 3, 24, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    batch = images.expand(8, -1, -1, -1)
    before = torch.get_rng_state()
    found = augment(batch, kind, 0.5, 0, "images", 3)
    assert torch.get_rng_state().equal(before)
    assert found.equal(augment(batch, kind, 0.5, 0, "images", 3))
    assert not found.equal(augment(batch, kind, 0.5, 0, "images", 4))
    assert (found.shape, found.dtype) == (batch.shape, torch.uint8)
    assert len({image.numpy().tobytes() for image in found}) > (4 if kind != "none" else 2)
    assert augment(batch, "none", 0.0, 0) is batch


def test_share_of_the_erased_images() -> None:
    """So many images have a grey part, which is a rectangle; all else is as it was."""
    images = torch.zeros(600, 3, 16, 16, dtype=torch.uint8)
    erased = augment(images, "none", 0.3, 0, "images", 1)
    changed = erased != images
    assert changed.flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert set(erased.unique().tolist()) == {0, GREY}
    for image in changed[changed.flatten(1).any(1)]:
        rows, columns = image.any(0).any(1), image.any(0).any(0)
        assert image.equal((rows[:, None] & columns[None]).expand(3, -1, -1))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"warmup": 1.0}, "train.warmup = 1.0: from 0 to below 1 is needed"),
        ({"label_smoothing": -0.1}, "train.label_smoothing = -0.1: from 0 to below 1 is needed"),
        ({"ema": 1.0}, "train.ema = 1.0: from 0 to below 1 is needed"),
        ({"freeze": 1.5}, "train.freeze = 1.5: from 0 to 1 is needed"),
        ({"random_erasing": 2.0}, "train.random_erasing = 2.0: from 0 to 1 is needed"),
        ({"mixup": -1.0}, "train.mixup = -1.0: at least 0 is needed"),
        ({"parts": 0}, "train.parts = 0: at least 1 is needed"),
    ],
)
def test_values_that_mean_nothing(config: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as refused:
        TrainConfig(**config)  # type: ignore[arg-type]
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"layer_decay": 0.0}, "train.optim.layer_decay = 0.0: above 0 and at most 1 is needed"),
        ({"betas": (0.9,)}, "train.optim.betas = [0.9]: two numbers from 0 to below 1 is needed"),
        ({"betas": (0.9, 1.0)}, "train.optim.betas = [0.9, 1.0]: two numbers from 0 to below 1 is needed"),
        ({"clip_norm": -1.0}, "train.optim.clip_norm = -1.0: at least 0 is needed"),
    ],
)
def test_optimisers_that_mean_nothing(config: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as refused:
        OptimConfig(**config)  # type: ignore[arg-type]
    assert str(refused.value) == words


def test_a_mix_of_one_image_is_the_image() -> None:
    images = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(Mix(0.3).images(images), images)
