"""A first experiment for a folder of photos: what is in it, what this machine can do in an hour or two, and a file.

Every line of the file says why it stands there.
"""

import dataclasses
import math
import os
import re
import shlex
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cotuning_tune.base.console import duration
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.toml_text import format_value
from cotuning_tune.data import TaskConfig, data_set
from cotuning_tune.data._data_set import shared_by
from cotuning_tune.experiment import parse
from cotuning_tune.hyper import build
from cotuning_tune.inspection.describe import Description, describe
from cotuning_tune.inspection.splits import STORED_SIDE
from cotuning_tune.models import pretrained
from cotuning_tune.plan import Plan, plan_of

FORMAT = "image_folder"
METHODS = ("fine_tune", "linear_probe", "co_tuning")
BACKBONES = {
    "cpu": ("efficientnet_lite0", "resnet18"),
    "gpu": ("resnet50", "efficientnet_lite0"),
}  # the first that loads
SIDES = (64, 96, 128, 160, 224)
MOST_SIDE = {"cpu": 128, "gpu": 224}
MOST_S = {"cpu": 2 * 3600.0, "gpu": 8 * 3600.0}
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 300, 5, 30  # of a training
TRIALS, LEAST_TRIALS, SEEDS = 8, 4, (0, 1, 2)
_Lines = list[tuple[str, object, str]]  # key, value, and why
UNEVEN = 3  # times as large as the smallest class: then classes count alike


@dataclass(frozen=True)
class Proposal:
    """An experiment's text, and the plan it was written by (None: ``problem`` says why there is none)."""

    text: str
    plan: Plan | None
    problem: str = ""


@dataclass(frozen=True)
class _Choice:
    """What is proposed, and the reasons for what is not the same for all folders."""

    name: str
    root: str
    device: str
    photos: Description
    backbone: str
    side: int
    trials: int = TRIALS
    epochs: int = LEAST_EPOCHS
    leaks: bool = False
    why: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Images that train at full rate."""
        return self.photos.rates[0].train

    @property
    def batch(self) -> int:
        return min(24 if self.device == "cpu" else 48, max(8, self.images // 4))


def name_for(folder: Path) -> str:
    """A name for the experiment and its task, from the folder's."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", folder.stem if folder.is_file() else folder.name).strip("._-")
    return plain[:60] or "photos"


def propose(folder: Path, out: Path, say: Callable[[str], None]) -> Proposal:
    """The experiment for a folder of photos, for the file ``out``. Raises UserError where there are none.

    It is planned on this machine, and made smaller until it takes an evening at most.
    """
    if folder.is_file() and folder.suffix.lower() != ".zip":
        cure = "for texts begin with search_spaces/wikigold.toml or docs/text.md"
        raise UserError(f"{folder} is a file: init takes a folder (or zip archive) of photos, a folder a class; {cure}")
    base = out.absolute().parent
    choice = _first_choice(folder, base, say)
    while True:
        text = _text(choice, None)
        try:
            plan = plan_of(parse(text, choice.name, base), say=say)
        except UserError as problem:
            return Proposal(_headed(text, out), None, str(problem))
        smaller = _smaller(choice) if plan.wall_s > MOST_S[choice.device] else None
        if smaller is None:
            return Proposal(_headed(_text(choice, plan), out), plan)
        say(f"{duration(plan.wall_s)} would be too long: trying less")
        choice = smaller


def _first_choice(folder: Path, base: Path, say: Callable[[str], None]) -> _Choice:
    kind, root = data_set(FORMAT), folder.expanduser().absolute()
    data = kind(build(kind.Config, {"root": str(root)}, f"data.{FORMAT}"), STORED_SIDE)
    say(f"looking at {folder}")
    photos = describe(data, TaskConfig(), (1.0,))
    device = "gpu" if torch.cuda.is_available() else "cpu"
    backbone, why = _backbone(device)
    relative = root.is_relative_to(base.absolute())
    shown = str(root.relative_to(base.absolute())) if relative else str(root)
    side = statistics.median(min(size) for size in photos.sizes) if photos.sizes else SIDES[0]
    fitting = [one for one in SIDES if one <= min(side, MOST_SIDE[device])]
    choice = _Choice(name_for(folder), shown, device, photos, backbone, max(fitting, default=SIDES[0]))
    steps = math.ceil(STEPS / math.ceil(choice.images / choice.batch))
    epochs = min(max(steps, LEAST_EPOCHS), MOST_EPOCHS)
    told = {"backbone": why, "side": f"photos have a median shorter side of {side:g} pixels"}
    return dataclasses.replace(choice, epochs=epochs, leaks=bool(shared_by(data)), why=told)


def _backbone(device: str) -> tuple[str, str]:
    """The first whose published weights can be had here, and why it is that one."""
    where = "a GPU is here" if device == "gpu" else "no GPU is here, and it is small"
    for name in BACKBONES[device]:
        try:
            pretrained(name, "")
        except UserError:
            continue
        return name, f"{where}; its published weights are at hand"
    name = BACKBONES[device][0]
    return name, f"{where}; its weights are NOT at hand: 'cotuning-tune check' says how to get them"


def _smaller(choice: _Choice) -> _Choice | None:
    """The same with less to do; None where less would say nothing."""
    if choice.side > SIDES[0]:
        side = max(one for one in SIDES if one < choice.side)
        return dataclasses.replace(choice, side=side, why=choice.why | {"side": "larger ones would take too long here"})
    if choice.trials > LEAST_TRIALS:
        return dataclasses.replace(choice, trials=LEAST_TRIALS)
    if choice.epochs > LEAST_EPOCHS:
        return dataclasses.replace(choice, epochs=max(LEAST_EPOCHS, choice.epochs // 2))
    return None


def _text(choice: _Choice, plan: Plan | None) -> str:
    """The file; without a plan it says nothing of time."""
    counts = choice.photos.train.per_class
    smallest, largest = min(counts.values()), max(counts.values())
    rate, classes = choice.photos.rates[0], len(choice.photos.class_names)
    batches = math.ceil(choice.images / choice.batch)
    cores = f"{os.cpu_count()} cores" if choice.device == "cpu" else f"{torch.cuda.device_count()} GPU(s)"
    took = f"about {duration(plan.wall_s)} in all on {cores}" if plan else f"not planned yet, on {cores}"
    uneven = largest > UNEVEN * smallest
    asked: _Lines = [
        ("tasks", [choice.name], f"{sum(map(len, choice.photos.splits))} photos of {classes} classes"),
        ("methods", METHODS, "plain fine-tuning, the new layer alone, and co-tuning"),
        ("backbone", choice.backbone, choice.why["backbone"]),
        ("trials", choice.trials, f"of each method; {took}"),
        ("seeds", SEEDS, "the best of each method is trained again with these, and tested"),
    ]
    if uneven:
        why = f"{smallest} to {largest} photos a class: every class counts alike"
        asked.append(("metric", "mean_class_accuracy", why))
    task: _Lines = [
        ("size", choice.side, choice.why["side"]),
        ("resize", choice.side * 8 // 7, "training cuts random parts out of this"),
    ]
    if choice.leaks:
        task.append(("duplicates", "drop", "some photos stand in two splits: they are left out of one"))
    split = f"{rate.train} photos train and {rate.val} validate; the smallest class has {smallest}"
    train: _Lines = [
        ("epochs", choice.epochs, f"{choice.epochs * batches} steps a training; {split}"),
        ("batch_size", choice.batch, f"{batches} steps an epoch"),
    ]
    data: _Lines = [("format", FORMAT, "a folder a class"), ("root", choice.root, "from the folder of this file")]
    name = format_value(choice.name) if "." in choice.name else choice.name
    tables: dict[str, _Lines] = {"experiment": asked, "task": task, f"data.{name}": data, "train": train}
    return "\n".join(_table(title, lines) for title, lines in tables.items())


def _headed(text: str, out: Path) -> str:
    """The text under the command that runs it, above a word on what is searched."""
    ranges = f"# The ranges of all that is searched: cotuning-tune space {METHODS[-1]}"
    return f"# {shlex.join(['cotuning-tune', 'run', str(out)])}\n{text}\n{ranges}\n"


def _table(name: str, lines: _Lines) -> str:
    """A table whose every line says why."""
    texts = [f"{key} = {format_value(value)}" for key, value, _ in lines]
    width = max(map(len, texts))
    said = [f"{text.ljust(width)}  # {why}" for text, (_, _, why) in zip(texts, lines, strict=True)]
    return "\n".join([f"[{name}]", *said, ""])
