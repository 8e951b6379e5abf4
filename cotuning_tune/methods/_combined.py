"""Methods together: ``a+b`` trains with the terms of both, each with its own hyper-parameters.

Off is where all parts are off. Each part sees the network as the parts before it have left it; first comes
the one that says what is trained.

>>> from cotuning_tune.methods import method
>>> method("bss+l2_sp").source
'Chen et al., NeurIPS 2019; Li et al., ICML 2018'
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import field, make_dataclass
from typing import Any

from torch import Tensor, nn

from cotuning_tune.base.names import JOINT
from cotuning_tune.data import Batch, Task
from cotuning_tune.methods._base import Draws, Method, Preparation
from cotuning_tune.models import Outputs, Pretrained, TransferModel


class Shared(Draws):
    """The draws of several parts, which take turns at one generator."""

    def __init__(self, parts: list[Draws]) -> None:
        self.parts = parts

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "generator":
            for part in self.parts:
                part.generator = value


class Combined(Method):
    """Its parts by name, in order; every hook of a method asks all of them."""

    kinds: dict[str, type[Method]]

    def __init__(self, config: Any, model: TransferModel, task: Task) -> None:
        super().__init__(config, model, task)
        self.parts = nn.ModuleDict()
        for name, kind in sorted(self.kinds.items(), key=lambda item: not item[1].variant):
            self.parts[name] = kind(getattr(config, name), model, task)
        self.draws = Shared([part.draws for part in self.each.values()])

    @property
    def each(self) -> dict[str, Method]:
        """The parts as methods."""
        return dict(self.parts.items())  # type: ignore[arg-type]

    def check(self, source: Pretrained) -> None:
        for part in self.each.values():
            part.check(source)

    def setup(self, preparation: Preparation) -> None:
        for part in self.each.values():
            part.setup(preparation)

    def terms(self, batch: Batch, outputs: Outputs, model: TransferModel) -> dict[str, Tensor]:
        """The terms of all parts; where two have one of the same name, each is named after its part."""
        found = {name: part.terms(batch, outputs, model) for name, part in self.each.items()}
        every = [term for terms in found.values() for term in terms]
        return {
            term if every.count(term) == 1 else f"{name}_{term}": value
            for name, terms in found.items()
            for term, value in terms.items()
        }

    def still(self, done: float) -> float:
        return max(part.still(done) for part in self.each.values())

    def kept(self, network: TransferModel) -> TransferModel:
        """The last part, which saw what the others had made of the network, takes its own back first."""
        return functools.reduce(lambda found, part: part.kept(found), reversed(self.each.values()), network)

    @contextmanager
    def stepping(self, model: TransferModel) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self.each.values():
                stack.enter_context(part.stepping(model))
            yield

    def summary(self, task: Task) -> dict[str, Any]:
        return {key: value for part in self.each.values() for key, value in part.summary(task).items()}

    @property
    def name(self) -> str:
        return JOINT.join(self.kinds)


@functools.cache
def combined(name: str, kinds: tuple[type[Method], ...]) -> type[Combined]:
    """The class of several methods together; its ``Config`` holds that of each part under its name."""
    by_name = dict(zip(name.split(JOINT), kinds, strict=True))
    fields = [(part, kind.Config, field(default=kind.Config())) for part, kind in by_name.items()]
    told = {
        "kinds": by_name,
        "Config": make_dataclass("Config", fields, frozen=True, kw_only=True),
        "source": "; ".join(kind.source for kind in kinds),
        "views": max(kind.views for kind in kinds),
        "rebuilt": tuple(f"parts.{part}.{own}" for part, kind in by_name.items() for own in kind.rebuilt),
    }
    flags = ("uses_source_head", "replaces_weight_decay", "reads_labels", "variant")
    return type("Combined", (Combined,), told | {flag: any(getattr(k, flag) for k in kinds) for flag in flags})
