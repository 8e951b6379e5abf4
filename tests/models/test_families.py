"""Every family of torchvision's classification models, taken apart, is the whole network.

A family is a module of torchvision.models; each is tried with its smallest member, or with one made narrow.
"""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models
from torchvision.models import convnext, maxvit, swin_transformer

from cotuning_tune.models import Backbone
from cotuning_tune.models.images import torchvision_models as tv
from cotuning_tune.models.images._weights import take_head
from cotuning_tune.testing import assert_copy_is_independent, assert_maps_as_tapped, images

CLASSES = 6


def swin(**options: object) -> nn.Module:
    window, ones = [2, 2], [1, 1, 1, 1]
    return swin_transformer.SwinTransformer([4, 4], 8, ones, ones, window, num_classes=CLASSES, **options)


SWIN_V2 = {
    "block": swin_transformer.SwinTransformerBlockV2,
    "downsample_layer": swin_transformer.PatchMergingV2,
}
NARROW = {
    "convnext": lambda: convnext.ConvNeXt(
        [convnext.CNBlockConfig(8 * n, 8 * n + 8 if n < 4 else None, 1) for n in range(1, 5)], num_classes=CLASSES
    ),
    "maxvit": lambda: maxvit.MaxVit(
        (224, 224), 8, 7, [8] * 4, [1] * 4, 8, stochastic_depth_prob=0.2, num_classes=CLASSES
    ),
    "swin_transformer": swin,
    "swin_transformer v2": partial(swin, **SWIN_V2),
    "vision_transformer": lambda: torchvision_models.VisionTransformer(64, 16, 6, 2, 8, 16, num_classes=CLASSES),
    "vision_transformer with a hidden layer": lambda: torchvision_models.VisionTransformer(
        64, 16, 1, 2, 8, 16, num_classes=CLASSES, representation_size=5
    ),
}
SMALLEST = (
    "alexnet",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "vgg11_bn",
)
# AlexNet has no more than three resolutions, this transformer one layer.
STAGES = {"alexnet": 3, "vision_transformer with a hidden layer": 1}


@pytest.fixture(scope="module", params=[*SMALLEST, *NARROW])
def taken_apart(request) -> tuple[str, nn.Module, Backbone, nn.Module]:
    """Name, whole network, and backbone and head of a copy of it; all in evaluation mode."""
    torch.manual_seed(1)
    name = request.param
    network = NARROW[name]() if name in NARROW else torchvision_models.get_model(name, weights=None)
    whole = copy.deepcopy(network).eval()
    head = take_head(network, tv.last_linear(network))
    return name, whole, tv.assemble(network), head


def images_for(network: nn.Module) -> Tensor:
    return images(side=tv.fixed_side(network) or 64)


def test_a_family_taken_apart_is_the_whole(taken_apart) -> None:
    """Features are what the head sees in the whole network, and the head on them gives its logits, bit for bit."""
    _, whole, backbone, head = taken_apart
    seen: list[Tensor] = []
    last = whole.get_submodule(tv.last_linear(whole))
    handle = last.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    pixels = images_for(whole)
    with torch.no_grad():
        expected = whole(backbone.normalised(pixels))
        features, _ = backbone(pixels)
    handle.remove()
    assert torch.equal(features, seen[0])
    assert torch.equal(head(features), expected)


def test_a_family_has_the_maps_of_its_stages(taken_apart) -> None:
    """There are maps of falling resolution, four but for shallow networks, with the channels that the taps say."""
    name, whole, backbone, _ = taken_apart
    assert len(assert_maps_as_tapped(backbone, images_for(whole))) == STAGES.get(name, 4)


def test_a_copy_is_independent_and_its_weights_fit(taken_apart) -> None:
    """A deep copy shares no weights, and takes the weights of the first back from its state dict."""
    _, whole, backbone, _ = taken_apart
    assert_copy_is_independent(backbone, images_for(whole))


def test_no_family_is_left_out() -> None:
    """Every model that is offered comes from a module of torchvision that is tried here."""

    def module_of(name: str) -> str:
        return torchvision_models.get_model_builder(name).__module__.rsplit(".", 1)[-1]

    tried = {module_of(name) for name in SMALLEST} | {name.split(" ")[0] for name in NARROW}
    assert {module_of(name) for name in tv.names()} - tried == set()


def test_networks_without_a_linear_head_are_refused() -> None:
    """Heads that are convolutions and networks with two outputs in training are not offered."""
    offered = set(torchvision_models.list_models(module=torchvision_models))
    assert offered - set(tv.names()) == {"googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1"}


def test_tokens_of_a_transformer_become_a_map() -> None:
    """The map of a vision transformer is its block's output without the class token, row after row."""
    network = NARROW["vision_transformer"]().eval()
    seen: list[Tensor] = []
    network.encoder.layers[2].register_forward_hook(lambda _m, _i, output: seen.append(output))
    take_head(network, tv.last_linear(network))
    backbone = tv.assemble(network)
    assert [tap.path for tap in backbone.taps.values()] == [f"0.encoder.layers.encoder_layer_{n}" for n in (1, 2, 4, 5)]
    seen.clear()
    with torch.no_grad():
        _, maps = backbone(images_for(network))
    found = maps["stage2"]
    assert found.shape == (2, 8, 4, 4)
    for row in range(4):
        for column in range(4):
            assert torch.equal(found[:, :, row, column], seen[0][:, 1 + 4 * row + column])
