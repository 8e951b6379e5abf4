"""Checkpoints as trainers write them: wrapped, prefixed, averaged, self-supervised, or of another network."""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from cotuning_tune.base.errors import UserError
from cotuning_tune.models import Pretrained
from cotuning_tune.models.images import torchvision_models as tv
from cotuning_tune.models.images._weights import read_checkpoint, seems_to_be

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The weights of a ResNet-18 of nine classes."""
    torch.manual_seed(9)
    return torchvision.models.resnet18(weights=None, num_classes=9).state_dict()


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def other(state: State) -> State:
    return {key: value + 1 for key, value in state.items()}


def headless(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def projection(layers: tuple[str, ...]) -> State:
    return {
        f"{layer}.{key}": torch.ones(128, 512)[: 128 if key == "bias" else None]
        for layer in layers
        for key in ("weight", "bias")
    }


def same_backbone(source: Pretrained, state: State) -> bool:
    """Whether the backbone holds the convolutions of a state dict."""
    mine = [v for v in source.backbone.state_dict().values() if v.ndim == 4 and v.shape[0] > 1]
    theirs = [v for v in state.values() if v.ndim == 4]
    return len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))


SUPERVISED: dict[str, Callable[[State], object]] = {
    "plain": lambda s: s,
    "data parallel": lambda s: {"state_dict": prefixed(s, "module."), "epoch": 3},
    "lightning": lambda s: {"state_dict": prefixed(s, "model.")},
    "compiled": lambda s: {"model": prefixed(s, "_orig_mod.")},
    "average of torchvision": lambda s: {
        "model": other(s),
        "model_ema": {"n_averaged": torch.tensor(5), **prefixed(s, "module.")},
    },
    "state of a script": lambda s: {"epoch": 3, "model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "criterion beside": lambda s: {**prefixed(s, "module."), "criterion.weight": torch.ones(9)},
    "lightning's metrics": lambda s: {"state_dict": {**prefixed(s, "model."), "val_score.total": torch.ones(1)}},
    "numbers of numpy": lambda s: {"state_dict": s, "best": np.float64(93.1), "seen": np.arange(3), "of": Path("x")},
    "average of timm": lambda s: {"state_dict": other(s), "state_dict_ema": s, "args": argparse.Namespace(lr=0.1)},
}


@pytest.mark.parametrize("form", SUPERVISED)
def test_a_supervised_file(tmp_path: Path, state: State, form: str) -> None:
    """Whatever a trainer wraps them in, backbone and head are read; averaged weights are taken first."""
    torch.save(SUPERVISED[form](state), tmp_path / "w.pth")
    source = tv.build("resnet18", str(tmp_path / "w.pth"))
    assert same_backbone(source, state)
    assert torch.equal(source.source_head.weight, state["fc.weight"])
    assert (source.head_is_trained, source.note) == (True, "")


MOCO_KEY = {"module.encoder_k.conv1.weight": torch.zeros(64, 3, 7, 7), "module.queue": torch.zeros(128, 9)}
SELF_SUPERVISED: dict[str, tuple[str, Callable[[State], object]]] = {
    "MoCo v1": (
        "MoCo",
        lambda s: {"state_dict": prefixed(headless(s) | projection(("fc",)), "module.encoder_q.") | MOCO_KEY},
    ),
    "MoCo v2": (
        "MoCo",
        lambda s: {"state_dict": prefixed(headless(s) | projection(("fc.0", "fc.2")), "module.encoder_q.") | MOCO_KEY},
    ),
    "MoCo v3": (
        "MoCo v3",
        lambda s: {
            "state_dict": prefixed(headless(s) | projection(("fc.0",)), "module.base_encoder.")
            | prefixed(other(s), "module.momentum_encoder.")
            | prefixed(projection(("0",)), "module.predictor.")
        },
    ),
    "DINO": (
        "DINO",
        lambda s: {
            "student": prefixed(other(s), "module.backbone."),
            "teacher": prefixed(headless(s), "backbone.") | prefixed(projection(("mlp.0", "last_layer")), "head."),
        },
    ),
    "SimSiam": (
        "SimSiam",
        lambda s: {
            "state_dict": prefixed(headless(s) | projection(("fc.0",)), "module.encoder.")
            | prefixed(projection(("0",)), "module.predictor.")
        },
    ),
    "SwAV": ("SwAV", lambda s: prefixed(headless(s) | projection(("projection_head.0", "prototypes")), "module.")),
    "no head": ("no weights of a head", headless),
    "head of layers": ("something else than a linear layer", lambda s: headless(s) | projection(("fc.0", "fc.2"))),
}


@pytest.mark.parametrize("form", SELF_SUPERVISED)
def test_a_self_supervised_file(tmp_path: Path, state: State, form: str) -> None:
    """The backbone is read strictly; what projects features is no head: a new one is made, and marked with why."""
    word, make = SELF_SUPERVISED[form]
    torch.save(make(state), tmp_path / "w.pth")
    source = tv.build("resnet18", str(tmp_path / "w.pth"))
    assert same_backbone(source, state)
    assert not source.head_is_trained
    assert not source.is_random
    assert word in source.note
    assert source.source_head.weight.shape == (1000, 512)


def test_a_masked_autoencoder(tmp_path: Path) -> None:
    """The decoder of an MAE file is left out; the encoder fits a timm transformer, which has no head then."""
    timm = pytest.importorskip("timm", reason="NOT TESTED: MAE files; needs pip install 'cotuning_tune[timm]'")
    from cotuning_tune.models.images import timm_models

    encoder = {k: v for k, v in timm.create_model("test_vit").state_dict().items() if not k.startswith("head.")}
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 64)}
    torch.save({"model": encoder | decoder}, tmp_path / "mae.pth")
    source = timm_models.build("timm/test_vit", str(tmp_path / "mae.pth"))
    assert (source.head_is_trained, "self-supervised MAE" in source.note) == (False, True)
    found = source.backbone.chain[0].state_dict()
    assert all(torch.equal(found[key], value) for key, value in encoder.items())


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        (
            "resnet18",
            lambda s: {k: v for k, v in s.items() if k != "layer2.0.conv1.weight"},
            ["lack 'layer2.0.conv1.weight'"],
        ),
        ("resnet18", lambda s: s | {"layer9.weight": torch.ones(1)}, ["have 'layer9.weight' too"]),
        (
            "resnet18",
            lambda s: s | {"conv1.weight": torch.ones(64, 4, 7, 7)},
            ["'conv1.weight' is [64, 4, 7, 7]", "[64, 3, 7, 7]"],
        ),
        ("resnet18", lambda s: s | {"fc.weight": torch.ones(9, 3)}, ["the head of resnet18", "[9, 3]", "[9, 512]"]),
        ("resnet34", lambda s: s, ["resnet34", "lack 'layer1.2.conv1.weight'", "seems to hold a ResNet-18"]),
        ("mobilenet_v3_small", lambda s: s, ["mobilenet_v3_small", "lack 'features.0.0.weight'", "a ResNet-18"]),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, state: State, name: str, spoil, words: list[str]) -> None:
    """The first name that differs is said, with what the file seems to be."""
    torch.save(spoil(state), tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        tv.build(name, str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("densenet121", "a DenseNet"),
        ("vit_b_32", "a vision transformer of torchvision"),
        ("regnet_y_400mf", "a RegNet"),
        ("mnasnet0_5", "a MNASNet"),
        ("shufflenet_v2_x0_5", "a ShuffleNet"),
        ("resnet18", "a ResNet-18"),
        ("alexnet", "a VGG or AlexNet"),
    ],
)
def test_what_a_file_seems_to_be(name: str, words: str) -> None:
    """The networks of torchvision are told apart by their names."""
    build = torchvision.models.get_model_builder(name)
    device = "cpu" if name.startswith("regnet") else "meta"
    with torch.device(device):
        weights = build(weights=None).state_dict()
    assert seems_to_be(weights).startswith(words)


def test_published_densenets_have_older_names(tmp_path: Path) -> None:
    """A file that writes ``norm.1`` and lacks the counters of BatchNorm, as published, gives the same network."""
    torch.manual_seed(10)
    network = torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=3).eval()
    old = {}
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            for layer in ("norm", "conv"):
                for number in "12":
                    key = key.replace(f"denselayer1.{layer}{number}.", f"denselayer1.{layer}.{number}.")
            old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    fresh = torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=3).eval()
    checkpoint = tv.Checkpoint(tv.modern_names(old), "file")
    head, reason = tv.load_network(fresh, "classifier", checkpoint, "densenet")
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(head(fresh(pixels)), network(pixels))
    assert reason == ""


def test_a_network_that_asks_for_its_version(tmp_path: Path) -> None:
    """MNASNet, which loads no weights without a version, loads from a file that has lost it."""
    from safetensors.torch import save_file

    network = torchvision.models.mnasnet0_5(weights=None, num_classes=4).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    source = tv.build("mnasnet0_5", str(tmp_path / "w.safetensors"))
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        found = source.source_head(copy.deepcopy(source.backbone).eval()(pixels)[0])
        torch.testing.assert_close(found, network(source.backbone.normalised(pixels)))


def test_a_file_is_read_without_running_code(tmp_path: Path) -> None:
    """The options of a training script beside the weights are allowed, other objects are refused and named."""
    torch.save({"model": {"w": torch.ones(1)}, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth").weights) == ["w"]
    torch.save({"model": {"w": torch.ones(1)}, "why": UserError("x")}, tmp_path / "b.pth")
    with pytest.raises(
        UserError, match=r"holds a cotuning_tune\.base\.errors\.UserError beside its weights: .* is not"
    ):
        read_checkpoint(tmp_path / "b.pth")


def test_what_was_taken_and_left_is_told(tmp_path: Path, state: State) -> None:
    """In numbers and names; a file without weights names what it has, a wrong name shows its neighbours."""
    extra = {f"criterion.{n}": torch.ones(1) for n in range(5)}
    torch.save(prefixed(state, "module.") | extra, tmp_path / "w.pth")
    source = tv.build("resnet18", str(tmp_path / "w.pth"))
    named = "criterion.0, criterion.1, criterion.2 and 2 more"
    assert source.loaded == f"{len(state)} tensors from {tmp_path}/w.pth; left out: {named}"
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no weights but a dict with 'epoch', 'loss', a state dict is needed"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save({key.replace("layer4.1.conv2", "layer4.1.conv_2"): v for key, v in state.items()}, tmp_path / "o.pth")
    with pytest.raises(UserError, match=r"they lack 'layer4\.1\.conv2\.weight' \(they have layer4\.1\.conv_2\.weight,"):
        tv.build("resnet18", str(tmp_path / "o.pth"))


def test_half_precision(tmp_path: Path, state: State) -> None:
    """Weights of 16 bits are taken as numbers of 32."""
    torch.save(
        {key: value.half() if value.is_floating_point() else value for key, value in state.items()}, tmp_path / "w"
    )
    source = tv.build("resnet18", str(tmp_path / "w"))
    assert source.source_head.weight.dtype == torch.float32
    assert torch.equal(source.source_head.weight, state["fc.weight"].half().float())


def test_random_weights_are_the_same_every_time() -> None:
    """Random weights depend on no generator of the caller: trials of all processes start at the same ones."""
    from cotuning_tune.models import pretrained

    keys = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        keys.append(pretrained.__wrapped__("mnasnet0_5", "random").fingerprint)
        assert torch.equal(torch.get_rng_state(), before)
    assert keys[0] == keys[1]
