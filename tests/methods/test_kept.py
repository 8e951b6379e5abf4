"""What is kept is another network than the trained one: adapters are merged, weights lie between two networks."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from cotuning_tune.base.errors import UserError
from cotuning_tune.export.torch_model import rebuilt
from cotuning_tune.export.write import evaluated
from cotuning_tune.methods import method
from cotuning_tune.methods.lora import LowRank, adapt, places
from cotuning_tune.models import Backbone, Pretrained, TransferModel, pretrained
from cotuning_tune.models.images import torchvision_models as tv
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.testing import move, spec_of, trainer_of
from cotuning_tune.training import TrainingJob
from cotuning_tune.training.job import make_trainer
from tests.methods.test_variants import unmade

FAST = {"optim/lr": 0.01}
KEEPERS = [("lora", {}), ("wise_ft", {"alpha": 0.3, "probe": 0.5})]


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(images).logits


@pytest.mark.parametrize("layer", [nn.Linear(5, 3), nn.Conv2d(4, 6, 3, groups=2)], ids=["linear", "convolution"])
def test_an_adapted_layer(layer: nn.Module) -> None:
    """Its weight is ``W + alpha / rank * B A``, by numpy; at first it is W to the last bit, and B alone is 0."""
    layer, before = copy.deepcopy(layer), layer.weight.detach().clone()
    assert adapt(layer, rank=2, alpha=5.0) == 1
    assert layer.weight.equal(before)
    own = layer.parametrizations.weight[0]
    assert own.down_RI.all()
    assert not own.up_OR.any()
    move(layer)
    down, up, start = (p.detach().numpy() for p in (own.down_RI, own.up_OR, layer.parametrizations.weight.original))
    expected = start + 5.0 / 2 * np.matmul(up, down).reshape(start.shape)
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-5, atol=1e-7)
    assert {n.rsplit(".", 1)[-1] for n, p in layer.named_parameters() if p.requires_grad} == {"down_RI", "up_OR"}


def test_what_is_adapted() -> None:
    """Linear layers, attention's three matrices as one; where convolutions are as many or more, these too."""
    transformer = VisionTransformer(32, 8, 2, 2, 16, 32)
    assert [name for _, name in places(transformer.encoder)] == ["in_proj_weight", *["weight"] * 3] * 2
    assert not [m for m, _ in places(transformer) if isinstance(m, nn.Conv2d)]
    for name, linear, convolutions in (("resnet18", 0, 20), ("mobilenet_v3_small", 1, 52)):
        found = [module for module, _ in places(pretrained(name, "random").backbone)]
        counts = [sum(isinstance(module, kind) for module in found) for kind in (nn.Linear, nn.Conv2d)]
        assert counts == [linear, convolutions]
    bare = Pretrained("bare", Backbone([nn.BatchNorm2d(3)], {}, [0.0] * 3, [1.0] * 3), nn.Linear(3, 2))
    with pytest.raises(UserError, match="lora adapts linear layers or convolutions, and bare has none"):
        unmade("lora").check(bare)


def test_adapters_alone_are_trained() -> None:
    """Of the backbone; what they change of a weight has their rank, and statistics move as in any training."""
    trainer = trainer_of("lora", config={"rank": 2}, **FAST)
    before = {name: value.clone() for name, value in trainer.model.backbone.state_dict().items()}
    trainer.train_epoch()
    after = trainer.model.backbone.state_dict()
    moved = {name.rsplit(".", 1)[-1] for name, value in before.items() if not value.equal(after[name])}
    assert moved == {"down_RI", "up_OR", "running_mean", "running_var", "num_batches_tracked"}
    plain, source = trainer.network.backbone.state_dict(), pretrained("tiny_cnn").backbone.state_dict()
    assert plain.keys() == source.keys()
    ranks = {
        name: int(torch.linalg.matrix_rank((plain[name] - source[name]).flatten(1), rtol=1e-3))
        for name in plain
        if plain[name].ndim == 4 and "chain" in name
    }
    assert ranks == dict.fromkeys(ranks, 2)
    assert len(ranks) == 3


def test_a_merged_transformer() -> None:
    """A vision transformer merged is a plain one with the same logits, and the adapted one trains as before."""
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, 2, 2, 16, 32)
    network.heads = nn.Identity()
    source = Pretrained("vit_tiny", tv.assemble(network), nn.Linear(16, 4))
    model = TransferModel(source, 3, torch.Generator().manual_seed(0))
    plain_keys = list(model.state_dict())
    made = method("lora")(method("lora").Config(), model, None)
    move(model)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    kept = made.kept(model)
    assert sorted(kept.state_dict()) == sorted(plain_keys)
    assert type(kept.backbone.chain[0].encoder.layers[0].self_attention) is nn.MultiheadAttention
    torch.testing.assert_close(logits(kept, images), logits(model, images), rtol=1e-4, atol=1e-5)
    model(images).logits.sum().backward()
    adapters = [module for module in model.modules() if isinstance(module, LowRank)]
    assert len(adapters) == 8
    assert all(adapter.up_OR.grad is not None and adapter.up_OR.grad.any() for adapter in adapters)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "timm/test_vit"])
def test_adapters_stand_in_the_layer_of_their_weight(name: str) -> None:
    """By depth a backbone has the same layers with adapters as without, for rates by layer and for freezing."""
    if name.startswith("timm"):
        pytest.importorskip("timm", reason="NOT TESTED: models of timm; needs pip install 'cotuning_tune[timm]'")
    backbone = pretrained.__wrapped__(name, "random").backbone
    before = [set(map(id, own)) for own in backbone.layers]
    adapt(backbone, rank=1, alpha=1.0)
    found = [set(map(id, own)) for own in backbone.layers]
    assert len(found) == len(before)
    assert all(own <= more for own, more in zip(before, found, strict=True))
    assert sum(map(len, found)) == len(list(backbone.parameters()))


@pytest.mark.parametrize(("name", "config"), KEEPERS)
def test_kept_weights_are_a_plain_network(name: str, config: dict, tmp_path: Path) -> None:
    """They are read back by the job, by the export's reference and by the exported model: the same validation."""
    spec = spec_of(name, config=config, **FAST)
    job = TrainingJob(spec, TrialDir(tmp_path), keep_best=True)
    while not job.finished:
        row = job.advance()
    again = TrainingJob(spec, TrialDir(tmp_path), keep_best=True)
    again.load_best()
    weights = copy.deepcopy(again.trainer.network.state_dict())
    plain = make_trainer(spec_of("fine_tune")).model.state_dict()
    assert {key: value.shape for key, value in weights.items()} == {key: value.shape for key, value in plain.items()}
    reference = evaluated(spec, weights)
    for trainer in (job.trainer, again.trainer, reference):
        assert trainer.evaluate(trainer.task.val).loss == row["val_loss"]
    classifier = rebuilt("tiny_cnn", {k: v for k, v in weights.items() if not k.startswith("source_head.")}).eval()
    images = next(reference.task.plain_batches(reference.task.val, 4))[0]
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), reference.network(images).logits, rtol=1e-5, atol=1e-6)


def test_loaded_weights_last_until_the_next_step() -> None:
    """What is loaded into the network is what is judged; training makes it anew."""
    trainer = trainer_of("lora", **FAST)
    with torch.no_grad():
        trainer.network.head.bias += 1
    assert trainer.network.head.bias.min() > 0.9
    trainer.train_epoch()
    assert trainer.network.head.bias.max() < 0.9


def test_between_probe_and_tuned() -> None:
    """``(1 - alpha) probe + alpha tuned`` by numpy, statistics included; the probe is linear probing's, bit for bit."""
    pins = {"epochs": 4, **FAST}
    trainer = trainer_of("wise_ft", config={"alpha": 0.3, "probe": 0.5}, **pins)
    probe, both = trainer_of("linear_probe", **pins), trainer_of("lp_ft", config={"probe": 0.5}, **pins)
    for _ in range(2):
        assert trainer.train_epoch() == probe.train_epoch() == both.train_epoch()
    assert trainer.network is trainer.model
    start = {name: value.numpy().copy() for name, value in probe.model.state_dict().items()}
    for _ in range(2):
        assert trainer.train_epoch() == both.train_epoch()
    end, found = both.model.state_dict(), trainer.network.state_dict()
    assert any(name.endswith("running_var") and not np.array_equal(start[name], end[name]) for name in end)
    for name, value in end.items():
        between = 0.7 * start[name].astype(float) + 0.3 * value.numpy()
        expected = between if value.is_floating_point() else value.numpy()
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-5, atol=1e-7, err_msg=name)
    assert trainer.evaluate(trainer.task.val).loss not in {both.evaluate(both.task.val).loss, 0.0}


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_the_interpolation(alpha: float) -> None:
    """At 1 the tuned network itself, at 0 the probe's weights and statistics to the last bit."""
    trainer = trainer_of("wise_ft", config={"alpha": alpha, "probe": 0.5}, **FAST)
    probe = trainer_of("linear_probe", **FAST)
    probe.train_epoch()
    trainer.train_epoch()
    trainer.train_epoch()
    assert (trainer.network is trainer.model) == (alpha == 1)
    found, start = trainer.network.state_dict(), probe.model.state_dict()
    trained = [key for key in start if re.search("(weight|bias|running_mean|running_var)$", key)]
    same = [found[key].equal(start[key]) for key in trained if not key.startswith("source_head")]
    assert len(same) == 17
    assert all(same) if alpha == 0 else not any(same)


@pytest.mark.parametrize(("name", "config"), KEEPERS)
def test_the_average_is_kept_in_the_same_way(name: str, config: dict) -> None:
    """With ``train.ema`` it is the average that is merged, or lies on the way from the probe."""
    trainer = trainer_of(name, config=config, ema=0.8, **FAST)
    for _ in range(2):
        trainer.train_epoch()
    images = next(trainer.task.plain_batches(trainer.task.val, 6))[0]
    expected = trainer.method.kept(trainer.averaged.module)
    assert torch.equal(logits(trainer.network, images), logits(expected, images))
    assert not torch.equal(logits(trainer.network, images), logits(trainer.method.kept(trainer.model), images))


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("lora", {"rank": 0}, "methods.lora.rank = 0: at least 1 is needed"),
        ("lora", {"alpha": -1.0}, "methods.lora.alpha = -1.0: at least 0 is needed"),
        ("wise_ft", {"alpha": 1.5}, "methods.wise_ft.alpha = 1.5: from 0 to 1 is needed"),
        ("wise_ft", {"probe": 1.0}, "methods.wise_ft.probe = 1.0: from 0 to below 1 is needed"),
        ("gradual_unfreezing", {"share": 1.0}, "methods.gradual_unfreezing.share = 1.0: from 0 to below 1 is needed"),
    ],
)
def test_values_that_mean_nothing(name: str, config: dict, words: str) -> None:
    with pytest.raises(UserError) as refused:
        method(name).Config(**config)
    assert str(refused.value) == words
