"""Other ways of training: what stands still, what is drawn anew, what is normalised by what."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.methods import Method, method
from cotuning_tune.methods._base import Draws
from cotuning_tune.methods.from_scratch import redraw
from cotuning_tune.methods.label_smoothing import uniform_cross_entropy
from cotuning_tune.methods.stoch_norm import StochNorm, replace_norms
from cotuning_tune.models import Backbone, Pretrained, pretrained
from cotuning_tune.testing import trainer_of
from cotuning_tune.training import Trainer


def moved(trainer: Trainer) -> set[str]:
    """Kinds of what an epoch has changed in the backbone."""
    before = {name: value.clone() for name, value in trainer.model.backbone.state_dict().items()}
    trainer.train_epoch()
    after = trainer.model.backbone.state_dict()
    return {name.rsplit(".", 1)[-1] for name, value in before.items() if not value.equal(after[name])}


def unmade(name: str) -> Method:
    """A method that nothing was made for: what it refuses does not depend on that."""
    kind = method(name)
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    return made


def test_a_linear_probe_leaves_the_backbone_alone() -> None:
    """Weights and statistics bit for bit; the head learns."""
    trainer = trainer_of("linear_probe")
    head = trainer.model.head.weight.clone()
    assert moved(trainer) == set()
    assert not head.equal(trainer.model.head.weight)


def test_probe_then_tune() -> None:
    """The first part of the steps is a linear probe bit for bit; then everything moves."""
    pins = {"epochs": 4, "optim/lr": 0.01}
    both, probe = trainer_of("lp_ft", config={"probe": 0.5}, **pins), trainer_of("linear_probe", **pins)
    for _ in range(2):
        assert both.train_epoch() == probe.train_epoch()
    assert both.model.head.weight.equal(probe.model.head.weight)
    assert {"weight", "bias", "running_mean", "running_var"} <= moved(both)


def test_frozen_layers_stay_frozen_after_the_probe() -> None:
    """``train.freeze`` holds under a method that lets the backbone go later."""
    trainer = trainer_of("lp_ft", config={"probe": 0.5}, freeze=0.67, epochs=4)
    before = {name: value.clone() for name, value in trainer.model.backbone.named_parameters()}
    for _ in range(4):
        trainer.train_epoch()
    after = dict(trainer.model.backbone.named_parameters())
    assert {name.split(".")[1] for name, value in before.items() if not value.equal(after[name])} == {"2"}


def test_gradual_unfreezing() -> None:
    """Nine steps, layers released at the third, fifth and seventh: weights and statistics move from there on alone."""
    trainer = trainer_of("gradual_unfreezing", config={"share": 2 / 3}, epochs=9, batch_size=24, **{"optim/lr": 0.01})
    assert (trainer.steps, len(trainer.model.backbone.layers)) == (9, 3)
    found = []
    for _ in range(9):
        before = {name: value.clone() for name, value in trainer.model.backbone.state_dict().items()}
        trainer.train_epoch()
        after = trainer.model.backbone.state_dict()
        found.append("".join(sorted({n.split(".")[1] for n, value in before.items() if not value.equal(after[n])})))
        moving = {n.rsplit(".", 1)[-1] for n, value in before.items() if not value.equal(after[n])}
        assert not moving or {"weight", "bias", "running_mean", "running_var"} <= moving
    assert found == ["", "", "2", "2", "12", "12", "012", "012", "012"]


def test_frozen_layers_are_not_released() -> None:
    """``train.freeze`` keeps the first layers for good; within an epoch a layer is released as between two."""
    trainer = trainer_of("gradual_unfreezing", config={"share": 2 / 3}, freeze=0.34, epochs=3)
    assert (trainer.steps, trainer.batches) == (9, 3)
    found = []
    for _ in range(3):
        before = {name: value.clone() for name, value in trainer.model.backbone.state_dict().items()}
        trainer.train_epoch()
        after = trainer.model.backbone.state_dict()
        found.append("".join(sorted({n.split(".")[1] for n, value in before.items() if not value.equal(after[n])})))
    assert found == ["2", "12", "12"]


def test_bitfit_trains_biases() -> None:
    """And the statistics of normalisation move, as in any training."""
    assert moved(trainer_of("bitfit")) == {"bias", "running_mean", "running_var", "num_batches_tracked"}
    bare = Backbone([nn.Conv2d(3, 4, 1, bias=False)], {}, [0.0] * 3, [1.0] * 3)
    with pytest.raises(UserError, match="bitfit trains biases, and bare has none"):
        unmade("bitfit").check(Pretrained("bare", bare, nn.Linear(4, 2)))


@pytest.mark.parametrize("name", ["tiny_cnn", "resnet18", "vit_b_32"])
def test_from_scratch_draws_everything(name: str) -> None:
    """No weight of a matrix keeps its value; the same generator draws the same network."""
    backbone, other = pretrained(name, "random").backbone, pretrained(name, "random").backbone
    kept = {key: p.detach().clone() for key, p in backbone.named_parameters()}
    for network in (backbone, other):
        torch.manual_seed(5)
        redraw(network)
    same = {key for key, p in backbone.named_parameters() if p.ndim > 1 and (p == kept[key]).float().mean() > 0.01}
    assert same == set()
    assert all(p.equal(q) for p, q in zip(backbone.parameters(), other.parameters(), strict=True))
    assert all(torch.isfinite(p).all() for p in backbone.parameters())


def test_each_seed_begins_elsewhere() -> None:
    one, same, other = (trainer_of("from_scratch", seed=seed).model.backbone.chain[0][0].weight for seed in (0, 0, 1))
    assert one.equal(same)
    assert not one.equal(other)


def test_stochastic_normalisation() -> None:
    """Each channel by the batch's or the moving statistics, in the asked share; the moving ones move as ever."""
    torch.manual_seed(0)
    plain, maps = nn.BatchNorm2d(400), 5 + 3 * torch.randn(6, 400, 4, 4)
    layer = StochNorm(nn.BatchNorm2d(400), 0.25, Draws())
    by_batch, found = plain(maps), layer(maps)
    near_batch = torch.isclose(found, by_batch, atol=1e-5).all(0).flatten(1).all(1)
    near_moving = torch.isclose(found, maps / (1 + 1e-5) ** 0.5, atol=1e-4).all(0).flatten(1).all(1)
    assert (near_batch ^ near_moving).all()
    assert 60 < int(near_batch.sum()) < 140
    assert plain.running_mean is not None
    assert plain.running_mean.equal(layer.running_mean)
    assert plain.eval()(maps).equal(layer.eval()(maps))


class Planted(Draws):
    """Numbers that were laid out beforehand."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows = list(rows)

    def uniform(self, *shape: int) -> Tensor:
        return torch.tensor(self.rows.pop(0)).view(shape)


def test_stochastic_normalisation_by_the_equations() -> None:
    """Equations 4 to 6 in numpy, over two steps at given masks: outputs, and the moving statistics after each."""
    generator = np.random.default_rng(3)
    gamma, beta, mean, variance = (generator.uniform(0.5, 2, 3) for _ in range(4))
    norm = nn.BatchNorm2d(3, momentum=0.1, eps=1e-5, dtype=torch.float64)
    values = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    norm.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values.items()}, strict=False)
    layer = StochNorm(norm, 0.4, Planted([0.39, 0.41, 0.0], [0.9, 0.1, 0.8]))
    for chosen in ([1, 0, 1], [0, 1, 0]):
        maps = generator.normal(1, 3, (4, 3, 2, 5))
        batch_mean, batch_variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        normed = [
            (maps - m[:, None, None]) / np.sqrt(v + 1e-5)[:, None, None]
            for m, v in ((mean, variance), (batch_mean, batch_variance))
        ]
        mask = np.array(chosen)[:, None, None]
        expected = gamma[:, None, None] * ((1 - mask) * normed[0] + mask * normed[1]) + beta[:, None, None]
        np.testing.assert_allclose(layer(torch.from_numpy(maps)).detach().numpy(), expected, rtol=1e-10)
        mean = 0.9 * mean + 0.1 * batch_mean
        variance = 0.9 * variance + 0.1 * maps.var((0, 2, 3), ddof=1)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var, variance, rtol=1e-12)


def test_every_norm_is_replaced() -> None:
    """In the backbone, and its weights stay the same parameters under the same names."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(3)), nn.LayerNorm(3))
    before = network.state_dict()
    assert replace_norms(network, 0.5, Draws()) == 2
    assert network.state_dict().keys() == before.keys()
    assert network[0](torch.randn(4, 3, 2, 2)).shape == (4, 3, 2, 2)
    assert network[1](torch.randn(4, 3)).shape == (4, 3)
    source = pretrained("vit_b_32", "random")
    with pytest.raises(UserError, match="stoch_norm replaces BatchNorm, and vit_b_32 has none"):
        unmade("stoch_norm").check(source)

    class Activated(nn.BatchNorm2d):
        """A norm that does more, as timm has them."""

    more = Backbone([Activated(3)], {}, [0.0] * 3, [1.0] * 3)
    with pytest.raises(UserError, match="stoch_norm replaces BatchNorm, and more has Activated"):
        unmade("stoch_norm").check(Pretrained("more", more, nn.Linear(3, 2)))


def test_the_control_is_co_tuning_with_a_uniform_target() -> None:
    from cotuning_tune.methods.co_tuning import soft_cross_entropy

    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(uniform_cross_entropy(logits), soft_cross_entropy(logits, torch.full((5, 7), 1 / 7)))
