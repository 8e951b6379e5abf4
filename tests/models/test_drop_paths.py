"""Residual branches that can be dropped: where each family's library drops them, rising as it says."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models
from torchvision.ops import StochasticDepth

from cotuning_tune.base.errors import UserError
from cotuning_tune.models import Backbone, TransferModel, pretrained


def dropped(module: nn.Module) -> dict[str, float]:
    """The rate of every module that drops branches, by its path."""
    return {path: part.p for path, part in module.named_modules() if isinstance(part, StochasticDepth)}


def images(side: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def set_to(name: str, rate: float) -> Backbone:
    """A copy of the backbone with that rate; nothing but what is dropped in training has changed."""
    before = pretrained(name, "random").backbone
    after = copy.deepcopy(before)
    after.set_drop_path(rate)
    assert list(after.state_dict()) == list(before.state_dict())
    with torch.no_grad():
        expected, found = (copy.deepcopy(backbone).eval()(images(32))[0] for backbone in (before, after))
    assert torch.equal(found, expected)
    return after


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
def test_torchvision_drops_where_it_does(name: str) -> None:
    """Untouched, the rates are the library's; set, they keep their proportions up to the one asked for."""
    library = list(dropped(torchvision_models.get_model(name, weights=None)).values())
    assert max(library) > 0
    assert list(dropped(pretrained(name, "random").backbone).values()) == library
    rates = list(dropped(set_to(name, 0.5)).values())
    assert max(rates) == 0.5
    assert rates == pytest.approx([0.5 * rate / max(library) for rate in library])
    assert set(dropped(set_to(name, 0.0)).values()) == {0.0}


def test_efficientnet_lite0() -> None:
    """Its rates rise in a line over the blocks, from none to the one asked for."""
    rates = list(dropped(set_to("efficientnet_lite0", 0.3)).values())
    assert rates == pytest.approx([0.02 * block for block in range(16)])
    assert dropped(pretrained("efficientnet_lite0", "random").backbone) == {}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_timm_drops_where_it_would(name: str) -> None:
    """The places and proportions are those of a network that timm makes with such a rate."""
    timm = pytest.importorskip("timm", reason="NOT TESTED: models of timm; needs pip install 'cotuning_tune[timm]'")
    network = timm.create_model(name, drop_path_rate=0.2)
    theirs = {path: part.drop_prob for path, part in network.named_modules() if isinstance(part, timm.layers.DropPath)}
    scale = 0.4 / max(theirs.values())
    assert dropped(set_to(f"timm/{name}", 0.4).chain[0]) == pytest.approx(
        {path: rate * scale for path, rate in theirs.items()}
    )


@pytest.mark.parametrize("name", ["tiny_cnn", "resnet18"])
def test_where_nothing_can_be_dropped(name: str) -> None:
    """One line that names the key; 0 asks for nothing."""
    with pytest.raises(UserError, match=r"^train.drop_path = 0.2: this backbone has no residual branches") as refused:
        copy.deepcopy(pretrained(name, "random").backbone).set_drop_path(0.2)
    assert refused.value.key == "train.drop_path"
    assert dropped(set_to(name, 0.0)) == {}


@pytest.mark.parametrize(("name", "own"), [("efficientnet_b0", 0.2), ("timm/ghostnet_050", 0.2), ("resnet18", None)])
def test_a_dropout_takes_the_place_of_the_backbones_last(name: str, own: float | None) -> None:
    """What a library has before its head, as a module or as a number of the network, is off then."""
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="NOT TESTED: models of timm; needs pip install 'cotuning_tune[timm]'")
    model = TransferModel(pretrained(name, "random"), 3, torch.Generator().manual_seed(0))

    def rates() -> set[float]:
        leaves = [part.p for part in model.backbone.modules() if isinstance(part, nn.Dropout)]
        return {*leaves, *(link.drop_rate for link in model.backbone.chain if hasattr(link, "drop_rate"))}

    assert rates() == ({own} if own else set())
    model.set_dropout(0.3)
    assert rates() <= {0.0}
    assert model.dropout.p == 0.3
