"""Depthwise convolutions: the same numbers as torch's own, whatever they are asked for."""

import copy
import io

import pytest
import torch
from torch import nn

from cotuning_tune.models._depthwise import DepthwiseConv2d, quicken

SHAPES = [(32, 2, 3), (48, 7, 3), (32, 2, 5), (32, 8, 5), (16, 7, 7)]  # channels, side of the map, of the filters


def pair(channels: int, kernel: int, **options: object) -> tuple[nn.Sequential, nn.Sequential]:
    """A network as it is, and quickened, with the same weights."""
    plain = nn.Sequential(nn.Conv2d(channels, channels, kernel, groups=channels, **options))  # type: ignore[arg-type]
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quick = copy.deepcopy(plain)
    quicken(quick)
    return plain, quick


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "side", "kernel"), SHAPES)
def test_the_gradients_are_those_of_torch(channels: int, side: int, kernel: int, stride: int, bias: bool) -> None:
    """Of the input, the filters and the bias, padded and not, within rounding."""
    for padding in (kernel // 2, 0 if side >= kernel else kernel - 1):
        found = []
        x = torch.randn(5, channels, side, side, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        for network in pair(channels, kernel, stride=stride, padding=padding, bias=bias):
            given = x.to(memory_format=torch.channels_last).requires_grad_()
            given.grad = None
            out = network(given)
            (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
            found.append([out, given.grad, *(p.grad for p in network.parameters())])
        assert isinstance(network[0], DepthwiseConv2d)
        assert len(found[0]) == 3 + bias
        for plain, quick in zip(*found, strict=True):
            torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(32, 64, 5, groups=32),
        nn.Conv2d(32, 32, 5, groups=16),
        nn.Conv2d(24, 24, 5, groups=24),
        nn.Conv2d(32, 32, (1, 5), groups=32),
        nn.Conv2d(32, 32, 5, groups=32, dilation=2),
        nn.Conv2d(32, 32, 5, groups=32, padding="same"),
        nn.Conv2d(32, 32, 5, groups=32, padding=2, padding_mode="reflect"),
    ],
    ids=["multiplier", "groups of two", "24 channels", "not square", "dilated", "same", "reflect"],
)
def test_others_stay_as_they_are(convolution: nn.Conv2d) -> None:
    """What the blocks do not fit is left alone."""
    quicken(nn.Sequential(convolution))
    assert type(convolution) is nn.Conv2d


def test_frozen_filters_and_halves() -> None:
    """Frozen filters get no gradient, their input does; bfloat16 and no gradient at all go torch's way."""
    plain, quick = pair(32, 5, padding=2)
    x = torch.randn(3, 32, 4, 4)
    for network in (plain, quick):
        network[0].weight.requires_grad_(False)
    grads = []
    for network in (plain, quick):
        given = x.clone().requires_grad_()
        network(given).square().sum().backward()
        grads.append(given.grad)
        assert network[0].weight.grad is None
    assert torch.equal(*grads)
    for network in (plain, quick):
        network[0].weight.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        quick(x).float().sum().backward()
    assert quick[0].weight.grad.dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(plain(x), quick(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_it_leaves_as_torch_knows_it() -> None:
    """Its state is that of the convolution, and a traced network needs nothing of this project."""
    plain, quick = pair(32, 5, padding=2)
    assert plain.state_dict().keys() == quick.state_dict().keys()
    buffer, x = io.BytesIO(), torch.randn(1, 32, 4, 4)
    torch.jit.save(torch.jit.trace(quick, x), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    assert torch.equal(loaded(x), plain(x))
    assert "PythonOp" not in str(loaded.inlined_graph)
