"""Every timm model with a linear head, named ``timm/NAME`` (extra ``timm``); normalised as its weights expect.

timm is imported when such a name is asked for. The network stays whole: a chain of one link, with taps at
the ends of its stages, or at four depths where all have one resolution.
"""

import copy
import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.models._taps import STAGES, Tap, even_depths, taps_at
from cotuning_tune.models._transfer_model import Backbone, Pretrained
from cotuning_tune.models.images._weights import SOURCE_CLASSES, load_network, read_checkpoint, take_head

PREFIX = "timm/"


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise UserError("the models timm/... come with the extra 'timm': pip install 'cotuning_tune[timm]'") from None
    return timm


@functools.cache
def _names() -> tuple[str, ...]:
    timm = _timm()
    return tuple(sorted(PREFIX + name for name in {*timm.list_models(), *timm.list_pretrained()}))


def names() -> list[str]:
    """Architectures, and architectures with the name of their weights; UserError where timm is missing."""
    return list(_names())


def _created(name: str, weights: str) -> nn.Module:
    """The network in evaluation mode; with its published weights where ``weights`` is ""."""
    timm = _timm()
    published = timm.get_pretrained_cfg(name)
    headless = published is not None and published.num_classes == 0
    classes = {"num_classes": SOURCE_CLASSES} if headless and weights else {}
    try:
        network: nn.Module = timm.create_model(name, pretrained=not weights, **classes)
    except Exception as problem:
        if weights:
            raise UserError(f"{PREFIX}{name} cannot be made by timm: {first_line(problem)}") from None
        raise UserError(
            f"the weights of {PREFIX}{name} could not be fetched ({first_line(problem)});"
            " give weights = '/path/to/file' of a local copy"
        ) from None
    return network.eval()


def head_path(network: Any, name: str) -> str:
    """Where the network's one linear head stands, "" where it has none. UserError for any other head."""
    head = network.get_classifier()
    if isinstance(head, (tuple, list)):
        raise UserError(f"{name} has {len(head)} heads (distillation): a backbone has one, take a model without")
    if isinstance(head, nn.Identity):
        return ""
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"{name} has a {type(head).__name__} as head: a backbone needs a linear one, take another model"
        )
    return next(path for path, module in network.named_modules() if module is head)


def _features(network: nn.Module, images: Tensor, name: str) -> Tensor:
    """What the network gives without its head; UserError unless that is one vector an image, in training too."""
    try:
        with torch.no_grad():
            found = [network(images), copy.deepcopy(network).train()(images)]
    except RuntimeError:
        found = []
    if not found or not all(isinstance(output, Tensor) and output.ndim == 2 for output in found):
        raise UserError(f"{name} cannot be a backbone: without its head it does not give one vector per image")
    return found[0]


def _own_head(network: nn.Module, path: str, images: Tensor, name: str) -> tuple[nn.Linear, str]:
    """The head taken out of the network; where timm publishes none a random one and that reason.

    UserError unless the head is what is computed last.
    """
    with torch.no_grad():
        expected = network(images)
    head = take_head(network, path) if path else None
    features = _features(network, images, name)
    if head is None:
        return nn.Linear(features.shape[1], SOURCE_CLASSES), f"timm publishes {name} without a head"
    fits = features.shape[1] == head.in_features
    if not fits or not torch.allclose(head(features).detach(), expected, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UserError(f"{name} cannot be a backbone: its head is not the last thing that it computes")
    return head, ""


def stage_taps(network: Any, images: Tensor) -> dict[str, Tap]:
    """The ends of the last four resolutions by timm's own list, or four depths; none where that list is wrong."""
    info = getattr(network, "feature_info", None) or []
    listed = {entry["module"]: entry for entry in getattr(info, "info", info)}
    modules = {path for path, _ in network.named_modules()}
    if not listed or not listed.keys() <= modules:
        return {}
    last = {entry["reduction"]: path for path, entry in listed.items()}
    paths = list(last.values())[-STAGES:] if len(last) > 1 else even_depths(list(listed))
    tokens = int(getattr(network, "num_prefix_tokens", 0))
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
    taps = taps_at(network, paths, images, channels_last=channels_last, skipped=tokens)
    agree = all(tap.channels == listed[path]["num_chs"] for tap, path in zip(taps.values(), paths, strict=False))
    return taps if agree else {}


def depths(network: Any) -> dict[str, int]:
    """The layer of each parameter by timm's own grouping, by its name in a chain of this one link; {} without one."""
    from timm.models import group_parameters

    try:
        groups = group_parameters(network, network.group_matcher(coarse=False))
    except (AttributeError, NotImplementedError, AssertionError):
        return {}
    found = {f"0.{name}": depth for depth, names in enumerate(groups.values()) for name in names}
    return found if found.keys() == {f"0.{name}" for name, _ in network.named_parameters()} else {}


def drop_paths(name: str) -> dict[str, float]:
    """Where timm puts a ``DropPath`` and how its rate rises, by the path in a chain of this one link; {} if nowhere."""
    from timm.layers import DropPath

    try:
        with torch.device("meta"):
            twin = _timm().create_model(name.removeprefix(PREFIX), drop_path_rate=0.1)
    except Exception:
        return {}
    return {f"0.{path}": module.drop_prob for path, module in twin.named_modules() if isinstance(module, DropPath)}


def licence(name: str, weights: str) -> str:
    """Where timm names one of its published weights."""
    published = None if weights else _timm().get_pretrained_cfg(name.removeprefix(PREFIX))
    return str(getattr(published, "license", None) or "")


def build(name: str, weights: str) -> Pretrained:
    """A timm model as backbone and head; one that timm publishes without a head gets a random one.

    Raises UserError where there is more than one head, none that is linear, or no weights to be had.
    """
    network = _created(name.removeprefix(PREFIX), weights)
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    channels, side, _ = config["input_size"]
    if channels != 3:
        raise UserError(f"{name} takes images of {channels} channels, 3 are needed")
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    path, random = head_path(network, name), weights == "random"
    checkpoint = read_checkpoint(weights) if weights and not random else None
    if checkpoint is not None:
        _own_head(copy.deepcopy(network), path, images, name)
        head, reason = load_network(network, path, checkpoint, name)
    else:
        head, reason = _own_head(network, path, images, name)
    backbone = Backbone(
        [network],
        stage_taps(network, images),
        mean=[255 * value for value in config["mean"]],
        std=[255 * value for value in config["std"]],
        depths=depths(network),
        drop_paths=drop_paths(name),
    )
    return Pretrained(
        name,
        backbone,
        head,
        head_is_trained=not (reason or random),
        is_random=random,
        note=reason,
        sides=(round(side / config["crop_pct"]), side),
        loaded=checkpoint.told if checkpoint else "",
    )
