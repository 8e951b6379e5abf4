"""Every torchvision classification model with its own head; weights from a file or torchvision's download.

A convolutional network is taken apart into a chain, with taps at the last convolution of each resolution, or at its
last block where that does not end in one. A transformer is a chain of one link, with taps at the end of each stage, or
at four depths (ViT).
"""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.models._taps import STAGES, Tap, even_depths, taps_at
from cotuning_tune.models._transfer_model import Backbone, Pretrained
from cotuning_tune.models.images._weights import Checkpoint, load_network, read_checkpoint, take_head

MEAN = [255 * value for value in (0.485, 0.456, 0.406)]
STD = [255 * value for value in (0.229, 0.224, 0.225)]
# Calibration temperature on ImageNet's validation images: (model, weights) -> t (paper, Algorithm 2).
TEMPERATURES = {("resnet50", "IMAGENET1K_V1"): 1.1312}
# More than one output in training, or a convolution as head: not a backbone and a linear head.
REFUSED = ("inception_v3", "googlenet", "squeezenet1_0", "squeezenet1_1")
SIDE = 224
WEIGHTED = (nn.Conv2d, nn.Linear)


def names() -> list[str]:
    """Classification models of the installed torchvision; none where it is missing."""
    if importlib.util.find_spec("torchvision") is None:
        return []
    from torchvision import models

    listed = models.list_models(module=models)
    return sorted(name for name in listed if name not in REFUSED)


def _checkpoint_of(name: str, weights: str) -> tuple[Checkpoint, str]:
    """The weights, and the name of the published ones ("" for a file)."""
    from torchvision import models

    known = models.get_model_weights(name)
    wanted = {item.name: item for item in known}
    if weights and weights not in wanted and weights != "DEFAULT":
        found = read_checkpoint(weights)
        return replace(found, weights=modern_names(found.weights)), ""
    chosen = wanted.get(weights, known.DEFAULT)
    try:
        state = chosen.get_state_dict(progress=False)
    except (OSError, RuntimeError) as problem:
        reason = first_line(problem)
        raise UserError(
            f"the weights {chosen.name} of {name} could not be fetched ({reason});"
            " give weights = '/path/to/file.pth' of a local copy"
        ) from None
    return Checkpoint(modern_names(state), f"{name} {chosen.name}"), chosen.name


def licence(name: str, weights: str) -> str:
    """Where torchvision names one of its published weights."""
    from torchvision import models

    known = models.get_model_weights(name)
    chosen = {"": known.DEFAULT, "DEFAULT": known.DEFAULT, **{item.name: item for item in known}}.get(weights)
    return str(chosen.meta.get("license", "")) if chosen else ""


def modern_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published weights of DenseNets write ``norm.1`` where the network says ``norm1``."""
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
    return {old.sub(r"\1\2.", key): value for key, value in weights.items()}


def last_linear(network: nn.Module) -> str:
    """The path of the network's last linear layer: its head."""
    found = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise UserError(f"{type(network).__name__} has no linear head")
    return found[-1]


def _flat(module: nn.Module) -> list[nn.Module]:
    """The links of nested sequences, one after the other."""
    if type(module) is nn.Sequential:
        return [link for child in module for link in _flat(child)]
    return [module]


class _MeanPool(nn.Module):
    """[B, C, H, W] -> [B, C], as some forwards write it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean([2, 3])


def chain_of(network: nn.Module) -> list[nn.Module]:
    """The network as a chain of modules; one link where its forward is not a plain chain."""
    children = dict(network.named_children())
    if {"conv1", "layer1", "layer4", "avgpool", "fc"} <= children.keys():
        links = [m for name, m in children.items() if name != "fc"]
        return [*[link for m in links for link in _flat(m)], nn.Flatten(1), children["fc"]]
    if list(children) == ["features", "avgpool", "classifier"]:
        classifier = _flat(children["classifier"])
        flatten = [] if any(isinstance(link, nn.Flatten) for link in classifier) else [nn.Flatten(1)]
        return [*_flat(children["features"]), children["avgpool"], *flatten, *classifier]
    if list(children) == ["stem", "trunk_output", "avgpool", "fc"]:
        stem, trunk = children["stem"], children["trunk_output"]
        blocks = [block for stage in trunk.children() for block in stage.children()]
        return [stem, *blocks, children["avgpool"], nn.Flatten(1), children["fc"]]
    return _chain_by_class(network, children)


def _chain_by_class(network: nn.Module, children: dict[str, nn.Module]) -> list[nn.Module]:
    """The chain of networks whose forward does more than their children say."""
    name = type(network).__name__
    links = [link for child in children.values() for link in _flat(child)]
    if name == "DenseNet":
        return [*links[:-1], nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1), links[-1]]
    if name == "MobileNetV2":
        features, classifier = _flat(children["features"]), _flat(children["classifier"])
        return [*features, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1), *classifier]
    if name == "MNASNet":
        return [*_flat(children["layers"]), _MeanPool(), *_flat(children["classifier"])]
    if name == "ShuffleNetV2":
        return [*links[:-1], _MeanPool(), links[-1]]
    return [network]


def tapped_blocks(network: nn.Module) -> tuple[list[str], bool, int]:
    """Of a transformer the blocks that are tapped, whether their output has its channels last, tokens to skip."""
    name = type(network).__name__
    if name == "VisionTransformer":
        layers = [path for path, _ in network.named_modules() if re.fullmatch(r"encoder\.layers\.[^.]+", path)]
        return even_depths(layers), False, 1
    if name == "SwinTransformer":
        features = network.get_submodule("features")
        stages = [f"features.{n}" for n, m in features.named_children() if type(m) is nn.Sequential and n != "0"]
        return stages[-STAGES:], True, 0
    if name == "MaxVit":
        return [f"blocks.{n}" for n, _ in network.get_submodule("blocks").named_children()][-STAGES:], False, 0
    return [], False, 0


def fixed_side(network: nn.Module) -> int:
    """The side in pixels of the only images that the network takes; 0: it takes any."""
    if type(network).__name__ == "MaxVit":
        return SIDE
    return int(getattr(network, "image_size", 0))


def taps_of(chain: list[nn.Module], side: int = SIDE) -> Mapping[str, Tap]:
    """The end of each of the last four resolutions; of a chain of one link its blocks.

    A convolution that stands alone behind the blocks of a resolution belongs to the head.
    """
    if len(chain) == 1:
        paths, channels_last, skipped = tapped_blocks(chain[0])
        images = torch.zeros(1, 3, side, side)
        return taps_at(chain[0], paths, images, channels_last=channels_last, skipped=skipped) if paths else {}
    last: dict[int, Tap] = {}
    blocks: set[int] = set()  # the sides at which there was one
    x = torch.zeros(1, 3, side, side)
    for position, link in enumerate(chain):
        x = link(x)
        if x.ndim != 4 or x.shape[-1] == 1:
            break
        inside = [path for path, m in link.named_modules() if isinstance(m, WEIGHTED)]
        if len(inside) > 1:
            blocks.add(x.shape[-1])
        if len(inside) > 1 or (inside and x.shape[-1] not in blocks):
            last[x.shape[-1]] = _end_of(link, position, inside[-1], x.shape[1])
    for tap in last.values():
        if "." not in tap.path and hasattr(follower := chain[int(tap.path) + 1], "inplace"):
            setattr(follower, "inplace", False)  # noqa: B010 - else it would overwrite the map that the tap keeps
    taps = [last[side] for side in sorted(last, reverse=True)][-STAGES:]
    return {f"stage{number}": tap for number, tap in enumerate(taps, 1)}


def _end_of(link: nn.Module, position: int, last: str, channels: int) -> Tap:
    """The last convolution of a link, as published for ResNet, where nothing weighs behind it and it is as wide as
    the link's output; else, as in DenseNet, ShuffleNet and ConvNeXt, the link itself."""
    whole = getattr(link.get_submodule(last), "out_channels", 0) == channels
    return Tap(f"{position}.{last}" if whole and last else str(position), channels)


def assemble(network: nn.Module) -> Backbone:
    """A network whose head was taken out as a backbone, in evaluation mode."""
    from torchvision.ops import StochasticDepth

    chain = chain_of(network.eval())
    named = nn.ModuleList(chain).named_modules()
    drop_paths = {path: module.p for path, module in named if isinstance(module, StochasticDepth)}
    with torch.no_grad():
        return Backbone(chain, taps_of(chain, fixed_side(network) or SIDE), MEAN, STD, drop_paths=drop_paths)


def build(name: str, weights: str) -> Pretrained:
    """A torchvision model as backbone and head; ``weights`` may name torchvision's (IMAGENET1K_V1)."""
    from torchvision import models

    network = models.get_model(name, weights=None)
    path = last_linear(network)
    if weights == "random":
        head = take_head(network, path)
        return Pretrained(name, assemble(network), head, head_is_trained=False, is_random=True)
    checkpoint, published = _checkpoint_of(name, weights)
    head, reason = load_network(network, path, checkpoint, name)
    temperature = TEMPERATURES.get((name, published))
    loaded = "" if published else checkpoint.told
    return Pretrained(name, assemble(network), head, temperature, not reason, note=reason, loaded=loaded)
