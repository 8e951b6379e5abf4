"""timm's models as backbones: what timm computes, normalised as timm says; imported when asked for."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cotuning_tune import models
from cotuning_tune.base.errors import UserError
from cotuning_tune.models import Pretrained, pretrained
from cotuning_tune.models.images import timm_models as tm
from cotuning_tune.models.images import torchvision_models as tv
from cotuning_tune.models.images._weights import take_head

timm = pytest.importorskip("timm", reason="NOT TESTED: models of timm; needs pip install 'cotuning_tune[timm]'")
# Plain, with tokens, with a hidden layer in the head (features are not num_features), channels last.
SMALL = ("test_resnet.r160_in1k", "test_vit", "mobilenetv3_small_050", "test_mambaout")


def images(side: int = 160) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def feature_info(network: nn.Module) -> list[dict]:
    """timm's own list of a network's stages."""
    listed = network.feature_info
    return getattr(listed, "info", listed)


@torch.no_grad()
def source_logits(source: Pretrained, pixels: Tensor) -> Tensor:
    return source.source_head(copy.deepcopy(source.backbone).eval()(pixels)[0])


@pytest.mark.parametrize("name", SMALL)
def test_a_model_taken_apart_is_the_whole(name: str) -> None:
    """Backbone and head give the logits of timm's network for images normalised as its configuration says."""
    torch.manual_seed(3)
    whole = timm.create_model(name, pretrained=False).eval()
    torch.manual_seed(3)
    source, pixels = tm.build(f"timm/{name}", "random"), images()
    config = whole.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = whole((pixels / 255 - mean) / std)
    torch.testing.assert_close(source_logits(source, pixels), expected, rtol=1e-4, atol=1e-5)
    assert source.source_head.in_features == whole.get_classifier().in_features == whole.head_hidden_size
    assert source.sides == (round(config["input_size"][1] / config["crop_pct"]), config["input_size"][1])
    assert (source.head_is_trained, source.is_random) == (False, True)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_has_maps(name: str) -> None:
    """Each has four maps [B, C, H, W] with the channels that its taps say, at the reductions that timm says."""
    backbone = pretrained(f"timm/{name}", "random").backbone
    listed = {entry["module"]: entry["reduction"] for entry in feature_info(backbone.chain[0])}
    with torch.no_grad():
        _, maps = copy.deepcopy(backbone).eval()(images())
    assert list(maps) == ["stage1", "stage2", "stage3", "stage4"]
    for stage, found in maps.items():
        assert found.ndim == 4
        assert found.shape[1] == backbone.taps[stage].channels
        assert found.shape[2] == found.shape[3] == 160 // listed[backbone.taps[stage].path.removeprefix("0.")]


def test_weights_of_a_file(tmp_path: Path) -> None:
    """A file in timm's names is read, with the head of as many classes as it has."""
    network = timm.create_model("test_resnet", pretrained=False, num_classes=7).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pth")
    source, pixels = tm.build("timm/test_resnet", str(tmp_path / "w.pth")), images()
    with torch.no_grad():
        expected = network(source.backbone.normalised(pixels))
    assert torch.equal(source_logits(source, pixels), expected)
    assert (source.source_head.out_features, source.head_is_trained) == (7, True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deit_tiny_distilled_patch16_224", "has 2 heads"),
        ("dla34", "has a Conv2d as head"),
        ("resnet10t.nothing", "no backbone 'timm/resnet10t.nothing', did you mean 'timm/resnet10t"),
    ],
)
def test_what_is_refused(name: str, reason: str) -> None:
    """Two heads, a head that is no linear layer and an unknown name are refused in one line."""
    with pytest.raises(UserError, match=reason) as caught:
        pretrained(f"timm/{name}", "random")
    assert "\n" not in str(caught.value)


class _TwoHeads(nn.Module):
    """Adds something to what its head gives."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.other = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) + self.other(self.body(x))


def test_a_head_that_is_not_last_is_refused() -> None:
    """A network that goes on computing after its head is no backbone, whatever its shapes."""
    with pytest.raises(UserError, match="its head is not the last thing"):
        tm._own_head(_TwoHeads(), "head", torch.ones(2, 4), "timm/two")


def test_a_model_without_a_head_is_said_to_have_none() -> None:
    """Of a network that timm publishes without a head the new one is random, and the reason says so."""
    network = timm.create_model("test_vit", num_classes=0).eval()
    assert tm.head_path(network, "timm/bare") == ""
    head, reason = tm._own_head(network, "", torch.zeros(2, 3, 160, 160), "timm/bare")
    assert (head.in_features, reason) == (64, "timm publishes timm/bare without a head")


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where timm cannot fetch weights, one line says to give a file."""

    def unreachable(*_: object, **__: object) -> nn.Module:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"could not be fetched \(no route to host\); give weights = '/path/to/file'"):
        tm.build("timm/test_vit", "")


def test_timm_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without timm one line says what to install, and nobody who does not ask for its models notices."""
    tm._names.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "resnet18" in models.names()
    with pytest.raises(UserError, match=r"pip install 'cotuning_tune\[timm\]'"):
        pretrained.__wrapped__("timm/test_vit", "random")


def test_names_are_shown_for_a_pattern_alone() -> None:
    """A list without a pattern holds none of timm's names; a pattern that begins with timm/ shows those that match."""
    assert [name for name in models.names() if name.startswith("timm/")] == []
    assert models.names("timm/test_resnet*") == ["timm/test_resnet", "timm/test_resnet.r160_in1k"]
    assert models.names("resnet1*") == ["resnet101", "resnet152", "resnet18"]


# Torchvision's name, that of timm's same architecture, and the taps: channels and reduction.
BOTH = [
    ("resnet18", "resnet18", [(64, 4), (128, 8), (256, 16), (512, 32)]),
    ("resnet50", "resnet50", [(256, 4), (512, 8), (1024, 16), (2048, 32)]),
    ("resnext50_32x4d", "resnext50_32x4d", [(256, 4), (512, 8), (1024, 16), (2048, 32)]),
    ("wide_resnet50_2", "wide_resnet50_2", [(256, 4), (512, 8), (1024, 16), (2048, 32)]),
    ("densenet121", "densenet121", [(256, 4), (512, 8), (1024, 16), (1024, 32)]),
    ("densenet161", "densenet161", [(384, 4), (768, 8), (2112, 16), (2208, 32)]),
    ("mobilenet_v2", "mobilenetv2_100", [(24, 4), (32, 8), (96, 16), (320, 32)]),
    ("mnasnet1_0", "mnasnet_100", [(24, 4), (40, 8), (96, 16), (320, 32)]),
    ("efficientnet_b0", "efficientnet_b0", [(24, 4), (40, 8), (112, 16), (320, 32)]),
    ("efficientnet_v2_s", "tf_efficientnetv2_s", [(48, 4), (64, 8), (160, 16), (256, 32)]),
    ("regnet_x_400mf", "regnetx_004_tv", [(32, 4), (64, 8), (160, 16), (400, 32)]),
    ("regnet_y_400mf", "regnety_004", [(48, 4), (104, 8), (208, 16), (440, 32)]),
    ("convnext_tiny", "convnext_tiny", [(96, 4), (192, 8), (384, 16), (768, 32)]),
    ("mobilenet_v3_small", "mobilenetv3_small_100", [(16, 4), (24, 8), (48, 16), (96, 32)]),
    ("mobilenet_v3_large", "mobilenetv3_large_100", [(24, 4), (40, 8), (112, 16), (160, 32)]),
    ("vgg11_bn", "vgg11_bn", [(128, 2), (256, 4), (512, 8), (512, 16)]),
    ("shufflenet_v2_x1_0", "", [(24, 2), (116, 8), (232, 16), (464, 32)]),
]
OTHER = {  # timm counts the convolution behind the last block as a stage's end, and VGG's last pooling
    "mobilenetv3_small_100": [(16, 4), (24, 8), (48, 16), (576, 32)],
    "mobilenetv3_large_100": [(24, 4), (40, 8), (112, 16), (960, 32)],
    "vgg11_bn": [(256, 4), (512, 8), (512, 16), (512, 32)],
}


@pytest.mark.parametrize(("ours", "theirs", "expected"), BOTH, ids=[names[0] for names in BOTH])
def test_taps_lie_where_timm_sees_the_ends_of_the_stages(ours: str, theirs: str, expected: list) -> None:
    """By channels and reduction, in the last four stages of each of torchvision's convolutional families."""
    with torch.device("cpu" if ours.startswith("regnet") else "meta"):  # a RegNet computes its widths
        network = torchvision.models.get_model(ours)
        take_head(network, tv.last_linear(network))
        backbone = tv.assemble(network)
        maps = backbone(torch.zeros(1, 3, 224, 224))[1]
        listed = feature_info(timm.create_model(theirs)) if theirs else []
    assert [(found.shape[1], 224 / found.shape[2]) for found in maps.values()] == expected
    ends = list({entry["reduction"]: (entry["num_chs"], entry["reduction"]) for entry in listed}.values())
    assert ends[-4:] == (OTHER.get(theirs, expected) if theirs else [])
