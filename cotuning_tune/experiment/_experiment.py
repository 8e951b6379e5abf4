"""What an experiment file says: which studies there are, and the search space of each.

A study is a task at a sampling rate with a method, and where backbones are compared on one of them. A method may stand
under a name of its own: a variant, whose ``kind`` is the method.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

import tomlkit
from tomlkit.items import Item

from cotuning_tune import data as data_sets
from cotuning_tune import methods, models
from cotuning_tune.base.names import JOINT
from cotuning_tune.base.toml_text import inline
from cotuning_tune.data import DataSet, TaskConfig, data_set
from cotuning_tune.hyper import Choice, Parameter, Range, Space, build, fields_of, hyper
from cotuning_tune.models import located, modality_of
from cotuning_tune.runs.choice import TOP
from cotuning_tune.scores import Metric, metric_of
from cotuning_tune.training import TrainConfig, TrainingSpec

SEARCH_SEED = 100
SEARCHES, LEAST_TRIALS = 8, 4  # with aim = 'methods': how many searches, and trials of each at least
BACKBONE, SIZE = "backbone", "task/size"  # searched like any other parameter, though no part of a training's table
SPLITS_APART = 1000  # between the validation splits of one search: repeats have those in between


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The ``[experiment]`` table."""

    tasks: tuple[str, ...] = hyper(MISSING, doc="data sets by name, or names of [data.NAME] tables")
    methods: tuple[str, ...] = hyper(MISSING, doc="by name, several together as 'a+b', or names of variants")
    backbone: str = hyper("", doc="a list is searched in every study")
    backbones: tuple[str, ...] = hyper((), doc="instead of backbone: every method is searched on each of them")
    name: str = hyper("", doc="default: the file's name")
    rates: tuple[float, ...] = hyper((1.0,), doc="sampling rates, above 0 and at most 1")
    weights: str = hyper("", doc="of the backbone: '' published, a file, 'random'")
    source_val: str = hyper("", path=True, doc="folder of the source classes' images, to calibrate the source head")
    source_val_images: int = hyper(2000, doc="at most so many of them")
    trials: int = hyper(32, doc="for every method alike; 0, the default with hours: as many as these give")
    hours: float = hyper(0.0, doc="new trials are drawn for so long, for every method alike; 0: until there are trials")
    seeds: tuple[int, ...] = hyper((0, 1, 2), doc="of the retraining")
    aim: Literal["model", "methods"] = hyper(
        "model", doc="model: one search, the best model; methods: many small ones, which method is better"
    )
    searches: int = hyper(0, doc="with aim = 'methods': how many share the trials; 0: 8, fewer where each had below 4")
    selection: Literal["confirm", "max", "loss"] = hyper(
        "confirm", doc="confirm: the three best once more on another split; with aim = 'methods' as max"
    )
    metric: str = hyper("", doc="every task is judged by it; '': each by its own, accuracy for most")
    val_splits: int = hyper(1, doc="validation splits that every trial is trained and judged on")
    retrain_on: Literal["train", "trainval"] = hyper("train", doc="trainval: on every label, as published")
    sampler: Literal["tpe", "random", "qmc", "gp"] = hyper(
        "tpe", doc="tpe finds the best fastest; qmc: the same points for every method, the fairest"
    )
    pruner: Literal["none", "asha", "median"] = hyper("none", doc="early stopping, within a study only")
    validate: Literal["used", "each"] = hyper(
        "used", doc="each: after every epoch, for the curves; used: where pruner or train.epoch = 'best' asks, and last"
    )
    test_crops: Literal["centre", "ten"] = hyper("centre", doc="ten: corners and centre, mirrored too, as the paper")
    track: tuple[str, ...] = hyper((), doc="trackers beside TensorBoard: mlflow, wandb, trackio")
    on_end: str = hyper("", doc="shell command at a driver's end; runs only where the user says --on-end")
    search_seed: int = hyper(SEARCH_SEED, doc="of the sampler and of training in the search")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The ``[resources]`` table: what one trial takes."""

    cpu_per_trial: int = hyper(1, doc="cores, and torch threads")
    gpu_per_trial: float | Literal["auto"] = hyper(
        -1.0, doc="share of a GPU; -1: one where there is one, else none; auto: as the measured memory allows"
    )
    state_every: float = hyper(
        30.0, doc="seconds of training that a kill may cost; 0: the state is written after each epoch"
    )

    @property
    def share(self) -> float:
        """The share of a GPU; -1 where none is named, also before 'auto' has been measured."""
        return -1.0 if self.gpu_per_trial == "auto" else self.gpu_per_trial


@dataclass(frozen=True)
class Study:
    """A task at a rate with a method; ``backbone`` where each of several has studies of its own, else ''."""

    task: str
    rate: float
    method: str
    backbone: str = ""

    @property
    def setting(self) -> str:
        """Task, rate and backbone of its own: what the methods are compared at."""
        rate = f"{self.rate:.2f}" if float(f"{self.rate:.2f}") == self.rate else repr(self.rate)
        family, *rest = self.backbone.split("/")  # of a folder's path the last part
        return "-".join([self.task, rate, *([family, *rest[-1:]] if family else [])])

    @property
    def shown(self) -> str:
        """The setting as people read it."""
        return f"{self.task} at {100 * self.rate:g} %{f' with {self.backbone}' if self.backbone else ''}"

    @property
    def learner(self) -> str:
        """What sets apart the studies whose trainings cost the same on the same images."""
        return f"{self.method} ({self.backbone})" if self.backbone else self.method

    @property
    def name(self) -> str:
        return f"{self.setting}-{self.method}"


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file. ``train``, ``methods`` and ``placed`` hold the spaces, with flat keys.

    ``kinds``: what each of its methods is; another name where ``[methods.NAME] method`` says it. ``metrics``: by task
    the name of what it is judged by. ``placed``: backbone and image size, which ``spec`` puts where they belong.
    ``trains``: by backbone the space of the training, where each has studies of its own; else empty.
    """

    name: str
    config: ExperimentConfig
    resources: Resources
    task: dict[str, Any]
    data: dict[str, dict[str, Any]]
    formats: dict[str, str]
    train: Space
    methods: dict[str, Space]
    kinds: dict[str, str]
    placed: Space
    trains: dict[str, Space]
    text: str = field(repr=False)
    metrics: dict[str, str] = field(default_factory=dict)
    base: Path = Path()  # the folder that relative paths of the text start from

    @property
    def studies(self) -> list[Study]:
        """Every study: tasks first, then rates, backbones and methods, in the file's order.

        Of several backbones a task has those that take what it consists of.
        """
        c = self.config
        every = product(c.tasks, c.rates, c.backbones or ("",), c.methods)
        return [Study(t, rate, m, b) for t, rate, b, m in every if not b or modality_of(b) == self.modality(t)]

    @cached_property
    def _modalities(self) -> dict[str, str]:
        """Looked up once: every trial's spec asks."""
        return {task: data_set(found).modality for task, found in self.formats.items()}

    def modality(self, task: str) -> str:
        """What a task consists of: images or text."""
        return self._modalities[task]

    def data_of(self, task: str, size: int) -> DataSet:
        """The data set of a task, its images stored at a side of ``size``. Raises UserError where it is not there."""
        kind = data_set(self.formats[task])
        found = kind(build(kind.Config, self.data[task], f"data.{task}"), size)
        found.decoding = build(TaskConfig, self.task, "task").decoding
        return found

    @property
    def backbones(self) -> tuple[str, ...]:
        """Every backbone that a training may have."""
        return self.config.backbones or self.placed[BACKBONE].extremes

    @property
    def plugins(self) -> dict[str, str]:
        """The packages of the plug-ins that its trainings use, with their versions."""
        parts = {part for kind in self.kinds.values() for part in kind.split(JOINT)}
        used = [*map(methods.plugin, parts), *map(data_sets.plugin, self.formats.values())]
        used += map(models.plugin, self.backbones)
        return {plugin.package: plugin.version for plugin in used if plugin}

    @property
    def paths(self) -> dict[str, Path]:
        """Each file or folder that the text names, by its key."""
        named = {
            f"data.{task}.{key}": values.get(key, "")
            for task, values in self.data.items()
            for key in self._places(task)
        }
        named["experiment.source_val"] = self.config.source_val
        if Path(self.config.weights).suffix:
            named["experiment.weights"] = self.config.weights
        return {key: Path(value) for key, value in named.items() if value}

    def _places(self, task: str) -> list[str]:
        """The keys of a task's options that are paths."""
        known = fields_of(data_set(self.formats[task]).Config)
        return [key for key, (item, _) in known.items() if item.metadata.get("path")]

    def places(self, *, largest: bool = False) -> list[dict[str, Any]]:
        """Values of ``placed`` that stand for all that a study may draw: each option, and each range's ends.

        ``largest``: of the image sizes the largest alone.
        """
        ends = {key: p.extremes for key, p in self.placed.items() if p.search is not None}
        if largest and SIZE in ends:
            ends[SIZE] = (max(ends[SIZE]),)
        return [dict(zip(ends, values, strict=True)) for values in product(*ends.values())]

    @property
    def searches(self) -> int:
        """How many searches share the trials: several with ``aim = 'methods'``."""
        return searches_of(self.config)

    @property
    def trials(self) -> int:
        """Trials of each study in one search; 0: as many as its hours give."""
        return self.config.trials // self.searches

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that a search's choice is retrained with: one where many searches are compared."""
        return self.config.seeds if self.config.aim == "model" else self.config.seeds[:1]

    @property
    def rule(self) -> Literal["confirm", "max", "loss"]:
        """How a study's configuration is chosen; small searches that are compared confirm nothing."""
        c = self.config
        return "max" if c.aim == "methods" and c.selection == "confirm" else c.selection

    @property
    def confirmations(self) -> int:
        """Trainings of each study on another validation split, at most."""
        return min(TOP, self.trials or TOP) if self.rule == "confirm" else 0

    def metric(self, task: str) -> Metric:
        """What the studies of a task are judged by."""
        return metric_of(self.metrics.get(task, ""))

    def train_of(self, backbone: str) -> Space:
        """The space of the training in the studies of a backbone."""
        return self.trains.get(backbone, self.train)

    def rows(self, backbone: str = "") -> int:
        """How often a trial of full length reports: once an epoch, or once an interval of iterations."""
        first = {key: p.first for key, p in self.train_of(backbone).items()}
        train: TrainConfig = build(TrainConfig, first, "train")
        return train.rows(1)

    def space(self, method: str, backbone: str = "") -> Space:
        """All parameters of a study: the training's and ``placed`` by their keys, the method's as ``method/key``."""
        train, placed = dict(self.train_of(backbone)), dict(self.placed)
        if methods.method(self.kinds[method]).replaces_weight_decay:
            train["optim/weight_decay"] = Parameter(0.0)
        if backbone:
            placed[BACKBONE] = Parameter(backbone)
        return train | placed | {f"{method}/{key}": p for key, p in self.methods[method].items()}

    def order(self, method: str) -> list[str]:
        """The searched parameters of a method after all others, which have the same places for all studies."""
        trains = [*(self.trains.values() or [self.train]), self.placed]
        shared = dict.fromkeys(key for space in trains for key, p in space.items() if p.search is not None)
        own = [f"{method}/{key}" for key, p in self.methods[method].items() if p.search is not None]
        return [*shared, *own]

    @property
    def validates_each(self) -> bool:
        """Whether a trial is validated after every epoch, whichever is kept."""
        return self.config.validate == "each" or self.config.pruner != "none"

    def spec(self, study: Study, values: Mapping[str, Any], seed: int, split: int = 0) -> TrainingSpec:
        """The training of a study with the searched ``values``; the others are pinned.

        ``split``: 0 for the search's validation split, from 1 for others.
        """
        known = self.space(study.method, study.backbone)
        chosen = {key: values.get(key, p.first) for key, p in known.items()}
        every = {key: list(v) if isinstance(v, tuple) else v for key, v in chosen.items()}  # as JSON has them
        prefix, placed = f"{study.method}/", {key: every.pop(key) for key in self.placed}
        val_seed = self.task["val_seed"] + SPLITS_APART * split
        return TrainingSpec(
            task=study.task,
            format=self.formats[study.task],
            metric=self.metric(study.task).name,
            rate=study.rate,
            method=self.kinds[study.method],
            backbone=located(str(placed[BACKBONE]), self.base),
            weights=self.config.weights,
            source_val=self.config.source_val,
            source_val_images=self.config.source_val_images,
            seed=seed,
            task_config=self._task_config(study.task) | {"size": placed[SIZE], "val_seed": val_seed},
            data_options=self.data.get(study.task, {}),
            train={k: v for k, v in every.items() if not k.startswith(prefix)},
            method_config={k.removeprefix(prefix): v for k, v in every.items() if k.startswith(prefix)},
        )

    def _task_config(self, task: str) -> dict[str, Any]:
        """Without what images have no use for: their trainings stay those of earlier versions."""
        if self.modality(task) == "text":
            return self.task
        return {key: value for key, value in self.task.items() if key != "max_length"}

    def space_text(self) -> str:
        """``space.toml``: every range and pin of the run, resolved; of a backbone what differs from the others."""
        shown: dict[str, Any] = {"train": _shown(self.train)}
        shown["methods"] = {m: _shown(s) for m, s in self.methods.items()}
        own = {b: {k: p for k, p in space.items() if p != self.train[k]} for b, space in self.trains.items()}
        extra = {
            "backbones": {b: {"train": _shown(space)} for b, space in own.items() if space},
            "placed": _shown({key: p for key, p in self.placed.items() if p.search is not None}),
        }
        return tomlkit.dumps(shown | {name: table for name, table in extra.items() if table})


def _shown(space: Space) -> dict[str, Item]:
    shown: dict[str, Any] = {}
    for key, parameter in space.items():
        search = parameter.search
        shown[key] = parameter.value
        if isinstance(search, Range):
            shown[key] = {"low": search.low, "high": search.high, "log": search.log, "first": parameter.first}
        elif isinstance(search, Choice):
            shown[key] = {"options": search.options, "first": parameter.first}
    return {key: inline(value) for key, value in shown.items()}


def searches_of(config: ExperimentConfig) -> int:
    """How many searches share the trials of each study."""
    return 1 if config.aim == "model" else config.searches or min(SEARCHES, config.trials // LEAST_TRIALS)
