"""Depthwise convolutions whose weights' gradient is quick on a CPU.

oneDNN computes that gradient of filters of 5 x 5 and more in blocks of 16 x 16 channels, and of a depthwise convolution
each block holds one channel: 255 of 256 products are thrown away. Here each block holds sixteen channels, whose own
products lie on its diagonal; the kernel, and so the order of every sum, is the same.
Shapes: B examples, D channels, K side of a filter.
"""

import functools
import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

BLOCK = 16
OWN_KERNEL = 3  # side of the filters for which oneDNN has a kernel of its own; padding on a smaller map rules it out

convolution_backward = torch.ops.aten.convolution_backward


@functools.cache
def _blocks_pay() -> bool:
    """Whether this machine's convolutions are oneDNN's for x86."""
    return torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")


def weight_gradient(
    grad_BDHW: Tensor, x_BDHW: Tensor, weight_D1KK: Tensor, stride: list[int], padding: list[int]
) -> Tensor:
    """The gradient [D, 1, K, K] of the filters, from that of the output."""
    channels, side, only = len(weight_D1KK), weight_D1KK.shape[-1], [False, True, False]
    if side > OWN_KERNEL:
        like = weight_D1KK.expand(-1, BLOCK, -1, -1)
        arguments = stride, padding, [1, 1], False, [0, 0], channels // BLOCK
        blocks = convolution_backward(grad_BDHW, x_BDHW, like, None, *arguments, only)[1]
        number = torch.arange(channels)
        return blocks[number, number % BLOCK].unsqueeze(1)
    if min(x_BDHW.shape[2:]) < side:
        x_BDHW, padding = pad(x_BDHW, (padding[1], padding[1], padding[0], padding[0])), [0, 0]
    arguments = stride, padding, [1, 1], False, [0, 0], channels
    found: Tensor = convolution_backward(grad_BDHW, x_BDHW, weight_D1KK, None, *arguments, only)[1]
    return found


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.biased = stride, padding, bias is not None
        return conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        arguments = ctx.stride, ctx.padding, [1, 1], False, [0, 0], len(weight)
        sizes, mask = [len(weight)] if ctx.biased else None, [of_x, False, ctx.biased and of_bias]
        found = convolution_backward(grads[0], x, weight, sizes, *arguments, mask) if any(mask) else [None] * 3
        filters = weight_gradient(grads[0], x, weight, ctx.stride, ctx.padding) if of_weight else None
        return found[0], filters, found[2], None, None


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution; parameters, state and values are those of ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        if self._is_plain(x):
            return super().forward(x)
        stride, padding = [*map(int, self.stride)], [*map(int, self.padding)]
        found: Tensor = _Depthwise.apply(x, self.weight, self.bias, stride, padding)  # type: ignore[no-untyped-call]
        return found

    def _is_plain(self, x: Tensor) -> bool:
        trains = torch.is_grad_enabled() and self.weight.requires_grad
        traced = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[no-untyped-call]
        whole = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return not trains or traced or not whole or not _blocks_pay()


def quicken(network: nn.Module) -> None:
    """Let every depthwise convolution in a network be a ``DepthwiseConv2d``."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = DepthwiseConv2d


def _fits(module: nn.Conv2d) -> bool:
    channels, simple = module.in_channels, module.padding_mode == "zeros" and not isinstance(module.padding, str)
    square = module.kernel_size[0] == module.kernel_size[1] and module.dilation == (1, 1)
    return module.groups == channels == module.out_channels and channels % BLOCK == 0 and simple and square
