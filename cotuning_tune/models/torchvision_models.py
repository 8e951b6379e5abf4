"""Every torchvision classification model with its own head; weights from a file or torchvision's download.

The network is taken apart into a chain: convolutional families get taps at the last convolution of
each resolution, others (transformers) become a chain of one link without taps.
"""

import importlib.util

import torch
from torch import Tensor, nn

from cotuning_tune.errors import UserError, first_line
from cotuning_tune.models._transfer_model import Backbone, Pretrained
from cotuning_tune.models._weights import load_strictly, read_weights

MEAN = [255 * value for value in (0.485, 0.456, 0.406)]
STD = [255 * value for value in (0.229, 0.224, 0.225)]
# Calibration temperature on ImageNet's validation images: (model, weights) -> t (paper, Algorithm 2).
TEMPERATURES = {("resnet50", "IMAGENET1K_V1"): 1.1312}
# More than one output in training, or a convolution as head: not a backbone and a linear head.
REFUSED = ("inception_v3", "googlenet", "squeezenet1_0", "squeezenet1_1")
STAGES = 4


def names() -> list[str]:
    """Classification models of the installed torchvision; none where it is missing."""
    if importlib.util.find_spec("torchvision") is None:
        return []
    from torchvision import models

    listed = models.list_models(module=models)
    return sorted(name for name in listed if name not in REFUSED)


def _weights_of(name: str, weights: str) -> tuple[dict[str, Tensor], str]:
    """The state dict, and the name of the published weights ("" for a file)."""
    from torchvision import models

    known = models.get_model_weights(name)
    wanted = {item.name: item for item in known}
    if weights and weights not in wanted and weights != "DEFAULT":
        return read_weights(weights), ""
    chosen = wanted.get(weights, known.DEFAULT)
    try:
        return chosen.get_state_dict(progress=False), chosen.name
    except (OSError, RuntimeError) as problem:
        reason = first_line(problem)
        raise UserError(
            f"the weights {chosen.name} of {name} could not be fetched ({reason});"
            " give weights = '/path/to/file.pth' of a local copy"
        ) from None


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


def chain_of(network: nn.Module) -> list[nn.Module]:
    """The network without its head as a chain of modules; one link where its forward is no plain chain."""
    children = dict(network.named_children())
    if {"conv1", "layer1", "layer4", "avgpool", "fc"} <= children.keys():
        links = [m for name, m in children.items() if name != "fc"]
        return [*[link for m in links for link in _flat(m)], nn.Flatten(1)]
    if list(children) == ["features", "avgpool", "classifier"]:
        classifier = _flat(children["classifier"])
        flatten = [] if any(isinstance(link, nn.Flatten) for link in classifier) else [nn.Flatten(1)]
        return [*_flat(children["features"]), children["avgpool"], *flatten, *classifier]
    if list(children) == ["stem", "trunk_output", "avgpool", "fc"]:
        stem, trunk = children["stem"], children["trunk_output"]
        blocks = [block for stage in trunk.children() for block in stage.children()]
        return [stem, *blocks, children["avgpool"], nn.Flatten(1)]
    if list(children) == ["features", "classifier"] and type(network).__name__ == "DenseNet":
        pool = [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1)]
        return [*_flat(children["features"]), *pool, children["classifier"]]
    return [network]


def taps_of(chain: list[nn.Module], side: int = 224) -> dict[str, str]:
    """The last convolution of each of the last four resolutions, as paths in the chain."""
    if len(chain) == 1:
        return {}
    last: dict[int, str] = {}
    x = torch.zeros(1, 3, side, side)
    for position, link in enumerate(chain):
        x = link(x)
        if x.ndim != 4 or x.shape[-1] == 1:
            break
        inside = [path for path, m in link.named_modules() if isinstance(m, nn.Conv2d)]
        if inside:
            last[x.shape[-1]] = ".".join(filter(None, (str(position), inside[-1])))
    for path in last.values():
        if "." not in path and hasattr(follower := chain[int(path) + 1], "inplace"):
            setattr(follower, "inplace", False)  # noqa: B010 - else it would overwrite the map that the tap keeps
    paths = [last[side] for side in sorted(last, reverse=True)][-STAGES:]
    return {f"stage{number}": path for number, path in enumerate(paths, 1)}


def build(name: str, weights: str) -> Pretrained:
    """A torchvision model as backbone and head; ``weights`` may name torchvision's (IMAGENET1K_V1)."""
    from torchvision import models

    state, published = ({}, "") if weights == "random" else _weights_of(name, weights)
    network = models.get_model(name, weights=None)
    path = last_linear(network)
    if f"{path}.weight" in state and len(state[f"{path}.weight"]) != 1000:
        network = models.get_model(name, weights=None, num_classes=len(state[f"{path}.weight"]))
    if state:
        load_strictly(network, state, name)
    head = network.get_submodule(path)
    assert isinstance(head, nn.Linear)
    chain = chain_of(network)
    network.set_submodule(path, nn.Identity())
    chain = [nn.Identity() if link is head else link for link in chain]
    network.eval()
    with torch.no_grad():
        backbone = Backbone(chain, taps_of(chain), MEAN, STD)
    temperature = TEMPERATURES.get((name, published))
    return Pretrained(name, backbone, head, temperature, head_is_trained=weights != "random")
