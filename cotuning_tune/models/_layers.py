"""The layers of a backbone by depth: for learning rates that fall with it, and for freezing the first ones.

A block (a residual unit, a transformer's layer, a dense block) is a layer. What stands alone between two blocks, as the
stem, a transition or the last norm, is one with what stands beside it; without any blocks (VGG) each convolution begins
one. Weights that a network holds itself, as the tokens and positions of a ViT, belong to the first layer.
"""

from collections.abc import Iterator

from torch import nn

PLAIN = (nn.Sequential, nn.ModuleList)
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
Unit = tuple[bool, list[nn.Parameter]]  # whether it is a block


def layers(chain: nn.ModuleList) -> list[list[nn.Parameter]]:
    """The parameters of each layer, the first one's first; every parameter of the chain stands in exactly one."""
    loose: list[nn.Parameter] = []
    units = list(_units(chain, loose))
    blocks = any(is_block for is_block, _ in units)
    found: list[Unit] = []
    for is_block, own in units:
        begins = is_block or found[-1][0] if blocks and found else any(weights.ndim > 1 for weights in own)
        if begins or not found:
            found.append((is_block, own))
        else:
            found[-1][1].extend(own)
    made = [own for _, own in found]
    return [[*loose, *(made[0] if made else [])], *made[1:]]


def _is_block(module: nn.Module) -> bool:
    return sum(isinstance(part, WEIGHTED) for part in module.modules()) > 1


def _is_network(module: nn.Module) -> bool:
    """Whether a module holds blocks in plain sequences, at whatever depth, and is none itself."""
    sequences = [child for child in module.children() if type(child) in PLAIN]
    blocks = sum(_is_block(item) for sequence in sequences for item in sequence.children())
    return blocks > 1 or any(map(_is_network, module.children()))


def _units(module: nn.Module, loose: list[nn.Parameter]) -> Iterator[Unit]:
    """What a module consists of, in order; parameters of its own, beside its children's, go to ``loose``."""
    if type(module) in PLAIN or _is_network(module):
        loose.extend(module.parameters(recurse=False))
        for child in module.children():
            yield from _units(child, loose)
    elif own := list(module.parameters()):
        yield _is_block(module), own
