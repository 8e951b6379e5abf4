"""One network for every method: a pre-trained backbone with its source head, and a new target head.

Shapes: B images, C x C pixels, D features, S source classes, T target classes, H x W a map's side.
"""

import copy
import difflib
import fnmatch
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.discovery import Shelf
from cotuning_tune.base.errors import UserError, first_line, first_three, unknown
from cotuning_tune.base.plugins import Plugin
from cotuning_tune.data import Words
from cotuning_tune.models._depthwise import quicken
from cotuning_tune.models._layers import layers as layers_of
from cotuning_tune.models._taps import Tap

RANDOM_WEIGHTS = 30  # the seed of what a family draws
PARAMETRIZED = re.compile(r"\.parametrizations\.(\w+)\..*")  # what torch makes of a weight's name


class Outputs(NamedTuple):
    """What a forward pass gives: logits [B, T], features [B, D], maps by stage [B, channels, H, W]."""

    logits: Tensor
    features: Tensor
    maps: dict[str, Tensor]


class Backbone(nn.Module):
    """A chain of modules from images to features, with taps where the map of each stage is read.

    Takes images [B, 3, C, C] in grey levels 0..255 (uint8 or float) and normalises them itself:
    (x - mean) / std. ``taps``: by stage the path of a convolution in ``chain``, or a ``Tap``; none where
    there are no maps. ``depths``: the layer (from 0) of each parameter by its name in ``chain``, where the family's
    library says so. ``drop_paths``: by the path in ``chain`` of what stands at the end of a residual branch, how often
    the branch is dropped beside the others.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        chain: Iterable[nn.Module],
        taps: Mapping[str, str | Tap],
        mean: list[float],
        std: list[float],
        depths: Mapping[str, int] | None = None,
        drop_paths: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.depths, self.drop_paths = dict(depths or {}), dict(drop_paths or {})
        self.chain = nn.ModuleList(chain)
        quicken(self.chain)
        self.taps = {stage: tap if isinstance(tap, Tap) else self._at(tap) for stage, tap in taps.items()}
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def _at(self, path: str) -> Tap:
        return Tap(path, cast(nn.Conv2d, self.chain.get_submodule(path)).out_channels)

    @property
    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer, the first one's first."""
        if not self.depths:
            return layers_of(self.chain)
        found: list[list[nn.Parameter]] = [[] for _ in range(1 + max(self.depths.values()))]
        for name, parameter in self.chain.named_parameters():
            found[self.depths[PARAMETRIZED.sub(r".\1", name)]].append(parameter)
        return found

    def tap(self, stage: str) -> nn.Module:
        """The module whose output is the stage's map: a convolution, a block, a layer of tokens."""
        return self.chain.get_submodule(self.taps[stage].path)

    def tap_position(self, stage: str) -> int:
        """Where in the chain that module stands."""
        return int(self.taps[stage].path.split(".")[0])

    def normalised(self, images_B3CC: Tensor) -> Tensor:
        """Images as the pre-trained weights expect them."""
        return (images_B3CC.to(self.mean.dtype) - self.mean) / self.std

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Apply the links of the chain from ``start`` up to, not including, ``stop``."""
        for position in range(start, stop):
            x = self.chain[position](x)
        return x

    def set_drop_path(self, rate: float) -> None:
        """Drop residual branches in training, each image's by a draw of its own (Huang et al., ECCV 2016).

        The share rises with depth to ``rate``, as the family's library has it rise (in a line from 0). Raises UserError
        where there is nothing to drop.
        """
        from torchvision.ops import StochasticDepth

        highest = max(self.drop_paths.values(), default=0.0)
        if rate and not highest:
            raise UserError(
                f"train.drop_path = {rate}: this backbone has no residual branches that can be dropped; leave it out,"
                " or take one that has (convnext_tiny, timm/resnet50)",
                "train.drop_path",
            )
        for path, share in self.drop_paths.items():
            parent, _, name = path.rpartition(".")
            setattr(self.chain.get_submodule(parent), name, StochasticDepth(rate * share / (highest or 1.0), "row"))

    def keep_maps(self, maps: dict[str, Tensor]) -> list[RemovableHandle]:
        """From now on each pass writes the map of each stage into ``maps``; the handles end that."""
        handles = []
        for stage, tap in self.taps.items():

            def keep(_m: nn.Module, _i: object, output: Tensor, stage: str = stage, tap: Tap = tap) -> None:
                maps[stage] = tap.map_of(output)

            handles.append(self.tap(stage).register_forward_hook(keep))
        return handles

    def features(self, images_B3CC: Tensor) -> Tensor:
        """Features [B, D]."""
        return self.run(self.normalised(images_B3CC), 0, len(self.chain))

    def forward(self, images_B3CC: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [B, D], and the map of each stage."""
        maps: dict[str, Tensor] = {}
        handles = self.keep_maps(maps)
        try:
            features_BD = self.features(images_B3CC)
        finally:
            for handle in handles:
                handle.remove()
        return features_BD, maps


@dataclass(frozen=True)
class Pretrained:
    """A backbone with the head it was trained with, as published. Never trained itself: copied.

    ``temperature`` calibrates the head on source data (paper, Algorithm 2); None: not known.
    ``head_is_trained`` is False where the head does not belong to these weights, ``note`` says why.
    ``is_random``: all weights were drawn at random, as the user asked for or because there are no others.
    ``loaded``: what was taken from the user's file, in numbers.
    ``sides``: pixels of the images as stored and as cut for these weights, where their owners say so.
    ``class_names``: of the head, where they are known.
    """

    name: str
    backbone: Backbone
    source_head: nn.Linear
    temperature: float | None = None
    head_is_trained: bool = True
    is_random: bool = False
    note: str = ""
    sides: tuple[int, int] | None = None
    loaded: str = ""
    class_names: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self) -> str:
        """A key of all weights and of the normalisation."""
        parts: list[object] = [self.name]
        for module in (self.backbone, self.source_head):
            for key, value in module.state_dict().items():
                parts += [key, np.asarray(value.detach().cpu())]
        return content_key(*parts)


class TransferModel(nn.Module):
    """Backbone and source head at their pre-trained weights, and a new head N(0, 0.01) with bias 0."""

    def __init__(self, source: Pretrained, num_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(source.backbone)
        self.source_head = copy.deepcopy(source.source_head)
        self.source_names = source.class_names
        self.head = nn.Linear(source.source_head.in_features, num_classes)
        self.dropout = nn.Dropout(0.0)
        with torch.no_grad():
            self.head.weight.normal_(0.0, 0.01, generator=generator)
            self.head.bias.zero_()

    def forward(self, images_B3CC: Tensor) -> Outputs:
        """The same in training and in evaluation; ``source_head(outputs.features)`` gives source logits."""
        return self._outputs(*self.backbone(images_B3CC))

    def _outputs(self, features_BD: Tensor, maps: dict[str, Tensor]) -> Outputs:
        return Outputs(self.head(self.dropout(features_BD)), features_BD, maps)

    def set_dropout(self, share: float) -> None:
        """Zero that share of the features before the new head in training; the backbone's own last dropout is off."""
        chain = self.backbone.chain
        for leaf in reversed([module for module in chain.modules() if next(module.children(), None) is None]):
            if isinstance(leaf, nn.Dropout):
                leaf.p = 0.0
            elif next(leaf.parameters(), None) is not None:
                break
        for link in chain:
            if hasattr(link, "drop_rate"):  # timm's networks that call it as a function
                setattr(link, "drop_rate", 0.0)  # noqa: B010 - no attribute that torch's types know
        self.dropout.p = share

    def compiled(self) -> Callable[[Tensor], Outputs]:
        """``forward`` compiled by torch, with the same weights; no module may be replaced from here on.

        Each shape is compiled by itself: what is computed does not depend on what was seen before. What this process
        has compiled for former models is let go, for torch compiles one function a few times only.
        """
        torch.compiler.reset()
        kept: dict[str, Tensor] = {}
        self.backbone.keep_maps(kept)

        def forward(images_B3CC: Tensor) -> Outputs:
            features_BD = self.backbone.features(images_B3CC)
            maps = dict(kept)
            kept.clear()
            return self._outputs(features_BD, maps)

        return torch.compile(forward, dynamic=False)


class Family(Protocol):
    """What a file of this folder offers.

    One with too many names to list defines ``PREFIX``, which they all carry ("timm/"): it is asked only
    for names that begin so, or by ``knows(name)`` where it cannot list them. One that knows of licences defines
    ``licence(name, weights)``, see ``licence_of``; one of ``models/text`` its tokenizer, ``words(name, weights)``.
    """

    def names(self) -> list[str]: ...

    def build(self, name: str, weights: str) -> Pretrained: ...


SHELF = Shelf("family of backbones", "backbones", ("cotuning_tune.models.images", "cotuning_tune.models.text"))


def families() -> list[str]:
    """The files of ``models/images`` and ``models/text``, and plug-ins."""
    return SHELF.names()


def _family(name: str, key: str = "") -> Family:
    """A family by its file's name. Raises UserError for a plug-in that cannot be used, or takes names of others."""
    family = cast(Family, SHELF.module(name, key))
    if plugin := SHELF.plugin(name):
        try:
            offered = family.names()
        except Exception as problem:  # of a stranger's module
            raise plugin.wrong(
                f"cannot say its names: {type(problem).__name__}: {first_line(problem)}", key
            ) from problem
        if foreign := [one for one in offered if one != name and not one.startswith(f"{name}/")]:
            raise plugin.wrong(f"offers {first_three(foreign)}: its names are {name} or {name}/...", key)
        own = [_family(file) for file in SHELF.own]
        if any(f"{name}/" == _prefix(f) or (not _prefix(f) and name in f.names()) for f in own):
            raise plugin.wrong("is left out: its name is that of a built-in one", key)
    return family


def _sound() -> Iterator[Family]:
    """Every family, the built-in ones first; a plug-in is imported when it is come to, and passed over where broken."""
    yield from map(_family, sorted(SHELF.own))
    for name in SHELF.plugins:
        if SHELF.plugin(name):
            with suppress(UserError):
                yield _family(name)


def broken() -> dict[str, str]:
    """By name why a plug-in cannot be used."""
    return SHELF.broken(_family)


def plugin(name: str) -> Plugin | None:
    """The plug-in that offers a backbone; None of a built-in one."""
    found = SHELF.plugin(name.partition("/")[0])
    return found if found and cast(ModuleType, family_of(name)).__name__ == found.point.module else None


def _prefix(family: Family) -> str:
    return str(getattr(family, "PREFIX", ""))


def names(pattern: str = "") -> list[str]:
    """Every backbone but those with a prefix; with a pattern (``resnet*``, ``timm/vit*``) those that match.

    Raises UserError where the pattern asks for a package that is not installed.
    """
    found = list(_sound())
    asked = [f for f in found if _prefix(f) and pattern.startswith(_prefix(f))]
    listed = asked or [f for f in found if not _prefix(f)]
    return sorted(name for f in listed for name in f.names() if fnmatch.fnmatch(name, pattern or "*"))


def family_of(name: str, key: str = "") -> Family:
    """The family that offers a backbone. Raises UserError (about ``key`` of an experiment file) where none does."""
    for family in _sound():
        prefix = _prefix(family)
        knows = getattr(family, "knows", None)
        if name.startswith(prefix) and (knows(name) if knows else name in family.names()):
            return family
        if prefix and name.startswith(prefix):
            raise UserError(_no_such(name, family.names(), prefix), key)
    if SHELF.plugin(home := name.partition("/")[0]):
        _family(home, key)  # says why it was passed over
    raise unknown("backbone", name, names(), key)


def located(name: str, base: Path) -> str:
    """A backbone's name with the path in it, if it has one that leads to something, made absolute from ``base``."""
    prefix, slash, rest = name.partition("/")
    if slash and not Path(rest).is_absolute() and hasattr(family_of(name), "knows") and (base / rest).exists():
        return f"{prefix}/{(base / rest).resolve()}"
    return name


def modality_of(name: str) -> Literal["images", "text"]:
    """What a backbone takes. Raises UserError for an unknown name."""
    return "text" if hasattr(family_of(name), "words") else "images"


def words_of(name: str, weights: str = "") -> Words:
    """How a backbone takes texts: its tokenizer. Raises UserError for one that takes images."""
    made = getattr(family_of(name), "words", None)
    if made is None:
        raise UserError(f"{name} takes images, no texts: texts need a backbone as hf/FOLDER")
    return cast(Words, made(name, weights))


def licence_of(name: str, weights: str = "") -> str:
    """The licence of a backbone's published weights as their owners name it; "" where that is not known."""
    tell = getattr(family_of(name), "licence", None)
    return str(tell(name, weights)) if tell else ""


def _no_such(name: str, known: list[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean '{near[0]}'?" if near else ";"
    return f"no backbone '{name}'{hint} cotuning-tune list models '{prefix}*' shows all {len(known)}"


@functools.cache
def has_batch_norm(name: str) -> bool:
    """Whether a backbone has layers that normalise by the statistics of batches."""
    modules = pretrained(name, "random").backbone.modules()
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)


@functools.lru_cache(maxsize=4)
def pretrained(name: str, weights: str = "") -> Pretrained:
    """A backbone with its head; read once a process.

    ``weights``: "" the published ones, a path to a file of them, or "random" (to test or to compare; the
    same every time). Raises UserError for an unknown name or weights that are not to be had.
    """
    family = family_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS)
        return family.build(name, weights)
