"""The layers of a backbone: of every family, against timm's own grouping where there is one."""

import pytest
import torch
from torch import nn

from cotuning_tune.models import pretrained
from cotuning_tune.models._layers import layers

COUNTS = {
    "tiny_cnn": 3,
    "efficientnet_lite0": 18,
    "efficientnet_lite2": 23,
    "resnet18": 9,
    "resnet50": 17,
    "densenet121": 9,
    "mobilenet_v3_small": 13,
    "shufflenet_v2_x0_5": 18,
    "vgg11_bn": 10,
    "vit_b_16": 14,
    "swin_t": 17,
    "convnext_tiny": 23,
    "regnet_y_400mf": 17,
}


@pytest.mark.parametrize("name", list(COUNTS))
def test_layers(name: str) -> None:
    """As many as the network has blocks, stems and transitions; each parameter stands in one, the first ones first."""
    backbone = pretrained(name, "random").backbone
    found = backbone.layers
    every = [id(p) for own in found for p in own]
    assert len(found) == COUNTS[name]
    assert sorted(every) == sorted(id(p) for p in backbone.parameters())
    convolution = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert id(convolution.weight) in {id(p) for p in found[0]}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "resnet10t", "regnety_002"])
def test_layers_of_timm_are_its_own(name: str) -> None:
    """By timm's own matcher, whatever names its modules bear."""
    timm = pytest.importorskip("timm")
    from timm.models import group_parameters

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0)
    groups = group_parameters(network, network.group_matcher(coarse=False))
    backbone = pretrained(f"timm/{name}", "random").backbone
    names = {id(p): key.removeprefix("chain.0.") for key, p in backbone.named_parameters()}
    found = [{names[id(p)] for p in own} for own in backbone.layers]
    theirs = [{key for key in group if not key.startswith("head.fc")} for group in groups.values()]
    assert found == [group for group in theirs if group]


def test_plain_modules() -> None:
    """Blocks apart, what stands beside one another together; without blocks each convolution begins a layer."""

    def block() -> nn.Module:
        made = nn.Module()
        made.one, made.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        return made

    stem, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    chain = nn.ModuleList([stem, norm, nn.Sequential(block(), block()), nn.BatchNorm2d(3), nn.ReLU()])
    assert [len(own) for own in layers(chain)] == [4, 4, 4, 2]
    assert [len(own) for own in layers(nn.ModuleList([stem, norm, nn.Conv2d(3, 3, 1, bias=False)]))] == [4, 1]
    assert layers(nn.ModuleList([nn.ReLU()])) == [[]]
