"""Where the maps of a backbone's stages are read: outputs of convolutions, of blocks, of token layers.

Shapes: B images, C channels, H x W pixels of a map, N tokens of an image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

STAGES = 4


@dataclass(frozen=True)
class Tap:
    """A module, by its path in the chain, whose output is a stage's map of ``channels`` channels.

    ``layout``: how the output lies: BCHW, BHWC, or BNC: tokens, the first ``skipped`` of which are no
    part of the image (class token, registers). Zeroing a channel means all tokens, these too.
    """

    path: str
    channels: int
    layout: str = "BCHW"
    skipped: int = 0

    @property
    def channel_axis(self) -> int:
        return 1 if self.layout == "BCHW" else -1

    def map_of(self, output: Tensor) -> Tensor:
        """The output as a map [B, C, H, W]; tokens become a square where they can, else H = N, W = 1."""
        if self.layout == "BCHW":
            return output
        if self.layout == "BHWC":
            return output.permute(0, 3, 1, 2)
        tokens_BCN = output[:, self.skipped :].transpose(1, 2)
        side = math.isqrt(tokens_BCN.shape[2])
        shape = (side, side) if side * side == tokens_BCN.shape[2] else (tokens_BCN.shape[2], 1)
        return tokens_BCN.unflatten(2, shape)


def even_depths(paths: Sequence[str]) -> list[str]:
    """Four of the paths: a quarter, half, three quarters and all of the way through; fewer are all taken."""
    parts = min(STAGES, len(paths))
    return [paths[math.ceil(len(paths) * part / parts) - 1] for part in range(1, parts + 1)]


def taps_at(
    network: nn.Module, paths: Sequence[str], images: Tensor, *, channels_last: bool = False, skipped: int = 0
) -> dict[str, Tap]:
    """Taps at these modules of a network that is a chain of one link, measured on ``images``.

    Outputs of four dimensions are BCHW, or BHWC with ``channels_last``; of three BNC, where ``skipped``
    tokens are left out unless all of them make a square. No taps where an output is something else, or
    where a later module writes over it.
    """
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for path in paths:

        def keep(_m: nn.Module, _i: object, output: object, path: str = path) -> None:
            if isinstance(output, Tensor):
                kept[path] = (output, output.clone())

        handles.append(network.get_submodule(path).register_forward_hook(keep))
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    layouts = {3: "BNC", 4: "BHWC" if channels_last else "BCHW"}
    taps = {}
    for number, path in enumerate(paths, 1):
        output, copy = kept.get(path, (torch.empty(0), torch.empty(0)))
        if output.ndim not in layouts or not torch.equal(output, copy):
            return {}
        layout = layouts[output.ndim]
        channels = output.shape[1 if layout == "BCHW" else -1]
        other = skipped if layout == "BNC" and math.isqrt(output.shape[1]) ** 2 != output.shape[1] else 0
        taps[f"stage{number}"] = Tap(f"0.{path}", channels, layout, other)
    return taps
