"""An experiment file: which studies there are, and the search space of each.

A study is a task at a sampling rate with a method. Every mistake in the file is a UserError that names
file and line and what is possible instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomlkit
from tomlkit.items import Item

from cotuning_tune import data, methods, models
from cotuning_tune.base.errors import UnknownKeyError, UserError, unknown
from cotuning_tune.base.former_names import KEYS
from cotuning_tune.base.names import check_name
from cotuning_tune.base.toml_text import inline, line_of, read_text, tables_of
from cotuning_tune.hyper import (
    Choice,
    Parameter,
    Range,
    Space,
    at_least,
    build,
    check_space,
    fields_of,
    hyper,
    read_space,
)
from cotuning_tune.run.choice import TOP
from cotuning_tune.training import TrainConfig, TrainingSpec, with_preset

TABLES = ("experiment", "task", "data", "train", "methods", "resources")
SEARCH_SEED = 100
SEARCHES, LEAST_TRIALS = 8, 4  # with aim = 'methods': how many searches, and trials of each at least
SPLITS_APART = 1000  # between the validation splits of one search: repeats have those in between


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The ``[experiment]`` table."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    backbone: str
    name: str = hyper("", doc="default: the file's name")
    rates: tuple[float, ...] = hyper((1.0,), doc="sampling rates, above 0 and at most 1")
    weights: str = hyper("", doc="of the backbone: '' published, a file, 'random'")
    source_val: str = hyper("", path=True, doc="folder of the source classes' images, to calibrate the source head")
    source_val_images: int = hyper(2000, doc="at most so many of them")
    trials: int = hyper(32, doc="for every method alike")
    seeds: tuple[int, ...] = hyper((0, 1, 2), doc="of the retraining")
    aim: Literal["model", "methods"] = hyper(
        "model", doc="model: one search, the best model; methods: many small ones, which method is better"
    )
    searches: int = hyper(0, doc="with aim = 'methods': how many share the trials; 0: 8, fewer where each had below 4")
    selection: Literal["confirm", "max", "loss"] = hyper(
        "confirm", doc="confirm: the three best once more on another split; with aim = 'methods' as max"
    )
    val_splits: int = hyper(1, doc="validation splits that every trial is trained and judged on")
    retrain_on: Literal["train", "trainval"] = hyper("train", doc="trainval: on every label, as published")
    sampler: Literal["tpe", "random", "qmc", "gp"] = hyper(
        "tpe", doc="tpe finds the best fastest; qmc: the same points for every method, the fairest"
    )
    pruner: Literal["none", "asha", "median"] = hyper("none", doc="early stopping, within a study only")
    test_crops: Literal["centre", "ten"] = hyper("centre", doc="ten: corners and centre, mirrored too, as the paper")
    on_end: str = hyper("", doc="shell command at a driver's end; runs only where the user says --on-end")
    search_seed: int = hyper(SEARCH_SEED, doc="of the sampler and of training in the search")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The ``[resources]`` table: what one trial takes."""

    cpu_per_trial: int = hyper(1, doc="cores, and torch threads")
    gpu_per_trial: float | Literal["auto"] = hyper(
        -1.0, doc="share of a GPU; -1: one where there is one, else none; auto: as the measured memory allows"
    )

    @property
    def share(self) -> float:
        """The share of a GPU; -1 where none is named, also before 'auto' has been measured."""
        return -1.0 if self.gpu_per_trial == "auto" else self.gpu_per_trial


@dataclass(frozen=True)
class Study:
    """A task at a rate with a method."""

    task: str
    rate: float
    method: str

    @property
    def setting(self) -> str:
        """Task and rate: what the methods are compared at."""
        rate = f"{self.rate:.2f}" if float(f"{self.rate:.2f}") == self.rate else repr(self.rate)
        return f"{self.task}-{rate}"

    @property
    def name(self) -> str:
        return f"{self.setting}-{self.method}"


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file. ``train`` and ``methods`` hold the spaces, with flat keys."""

    name: str
    config: ExperimentConfig
    resources: Resources
    task: dict[str, Any]
    data: dict[str, dict[str, Any]]
    formats: dict[str, str]
    train: Space
    methods: dict[str, Space]
    text: str = field(repr=False)
    base: Path = Path()  # the folder that relative paths of the text start from

    @property
    def studies(self) -> list[Study]:
        """Every study: tasks first, then rates, then methods, in the file's order."""
        c = self.config
        return [Study(task, rate, name) for task in c.tasks for rate in c.rates for name in c.methods]

    @property
    def searches(self) -> int:
        """How many searches share the trials: several with ``aim = 'methods'``."""
        return _searches(self.config)

    @property
    def trials(self) -> int:
        """Trials of each study in one search."""
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
        return min(TOP, self.trials) if self.rule == "confirm" else 0

    @property
    def rows(self) -> int:
        """How often a trial of full length reports: once an epoch, or once an interval of iterations."""
        train: TrainConfig = build(TrainConfig, {key: p.first for key, p in self.train.items()}, "train")
        return train.rows(1)

    def space(self, method: str) -> Space:
        """All parameters of a study: the training's under their own keys, the method's as ``method/key``."""
        train = dict(self.train)
        if methods.method(method).replaces_weight_decay:
            train["optim/weight_decay"] = Parameter(0.0)
        return train | {f"{method}/{key}": p for key, p in self.methods[method].items()}

    def order(self, method: str) -> list[str]:
        """The searched parameters of a method after all those of the training, which have the same places for all."""
        searched = [key for key, p in self.train.items() if p.search is not None]
        own = [f"{method}/{key}" for key, p in self.methods[method].items() if p.search is not None]
        return [*searched, *own]

    def spec(self, study: Study, values: Mapping[str, Any], seed: int, split: int = 0) -> TrainingSpec:
        """The training of a study with the searched ``values``; the others are pinned.

        ``split``: 0 for the search's validation split, from 1 for others.
        """
        known = self.space(study.method)
        chosen = {key: values.get(key, p.first) for key, p in known.items()}
        every = {key: list(v) if isinstance(v, tuple) else v for key, v in chosen.items()}  # as JSON has them
        prefix = f"{study.method}/"
        return TrainingSpec(
            task=study.task,
            format=self.formats[study.task],
            rate=study.rate,
            method=study.method,
            backbone=self.config.backbone,
            weights=self.config.weights,
            source_val=self.config.source_val,
            source_val_images=self.config.source_val_images,
            seed=seed,
            task_config=self.task | {"val_seed": self.task["val_seed"] + SPLITS_APART * split},
            data_options=self.data.get(study.task, {}),
            train={k: v for k, v in every.items() if not k.startswith(prefix)},
            method_config={k.removeprefix(prefix): v for k, v in every.items() if k.startswith(prefix)},
        )

    def space_text(self) -> str:
        """``space.toml``: every range and pin of the run, resolved."""
        return tomlkit.dumps({"train": _shown(self.train), "methods": {m: _shown(s) for m, s in self.methods.items()}})


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


def _pinned(config_type: type, table: Mapping[str, Any], where: str, base: Path = Path()) -> dict[str, Any]:
    """The flat values of a table in which nothing may be searched; paths are made absolute from ``base``."""
    values: dict[str, Any] = {}
    known = fields_of(config_type)
    for key, parameter in read_space(config_type, table, where).items():
        if parameter.search is not None:
            raise UserError(f"{where}.{key} cannot be searched: give it one value", f"{where}.{key}")
        value = parameter.value
        if known[key][0].metadata.get("path") and value:
            value = _absolute(base, value, f"{where}.{key}")
        values[key] = value
    build(config_type, values, where)
    return values


def _absolute(base: Path, value: str, key: str) -> str:
    """A path of the file, from ``base`` where it is relative."""
    try:
        return str(base.absolute() / Path(value).expanduser())
    except RuntimeError:
        raise UserError(f"{key} = {value!r}: no user of that name has a home here", key) from None


def _check_lists(config: ExperimentConfig) -> None:
    for name in ("tasks", "rates", "methods", "seeds"):
        if not (listed := getattr(config, name)):
            raise UserError(f"experiment.{name} is empty: list at least one", f"experiment.{name}")
        if len(set(listed)) < len(listed):
            raise UserError(f"experiment.{name} lists something twice: {list(listed)}", f"experiment.{name}")
    for rate in config.rates:
        if not 0 < rate <= 1:
            problem = f"experiment.rates: {rate:g} is not a sampling rate: it must be above 0 and at most 1"
            raise UserError(problem, "experiment.rates")


def _check(config: ExperimentConfig) -> None:
    _check_lists(config)
    for name in config.methods:
        if name not in methods.names():
            raise unknown("method", name, methods.names(), "experiment.methods")
    models.family_of(config.backbone, "experiment.backbone")
    at_least(config, "experiment", source_val_images=1, trials=1, val_splits=1, searches=0)
    _check_aim(config)
    check_name(config.name, "the run's name", "--name, or name in [experiment]", "experiment.name")
    for name in config.tasks:
        check_name(name, "the task", "[data.NAME] with a format gives a task a name of its own", "experiment.tasks")


def _searches(config: ExperimentConfig) -> int:
    return 1 if config.aim == "model" else config.searches or min(SEARCHES, config.trials // LEAST_TRIALS)


def _check_aim(config: ExperimentConfig) -> None:
    if config.val_splits > 1 and config.pruner != "none":
        problem = f"experiment.val_splits = {config.val_splits} trains each trial several times: pruner = 'none' then"
        raise UserError(problem, "experiment.val_splits")
    if config.aim == "model":
        if config.searches:
            raise UserError("experiment.searches counts with aim = 'methods' alone", "experiment.searches")
        return
    count = _searches(config)
    if config.searches == 1 or count < 2 or config.trials < 2 * count:
        problem = (
            f"experiment.aim = 'methods' shares {config.trials} trials out over {max(count, 1)} searches: give"
            f" {2 * LEAST_TRIALS} trials or more, and 2 or more for each search"
        )
        raise UserError(problem, "experiment.trials")


def _check_resources(resources: Resources) -> None:
    if resources.cpu_per_trial < 1:
        problem = f"resources.cpu_per_trial = {resources.cpu_per_trial}: at least 1 is needed"
        raise UserError(problem, "resources.cpu_per_trial")
    share = resources.share
    if not (share == -1 or 0 <= share <= 1):
        problem = f"resources.gpu_per_trial = {share:g}: a training uses one GPU: a share from 0 to 1, or 'auto'"
        raise UserError(problem, "resources.gpu_per_trial")


def parse(text: str, name: str, base: Path = Path()) -> Experiment:
    """The experiment of a TOML text; ``name`` where the text gives none, ``base`` for relative paths.

    Raises UserError.
    """
    tables = tables_of(text)
    try:
        return _parse(tables, text, name, base)
    except UnknownKeyError as problem:
        raise problem.with_homes(_homes(problem.name, tables)) from None


def _homes(name: str, tables: Mapping[str, Any]) -> list[str]:
    """Where a key of this name belongs, as ``[table] name``; ``[table]`` where the name is that of a table."""
    asked, given = (t if isinstance(t := tables.get(name), Mapping) else {} for name in ("experiment", "data"))
    listed = asked.get("methods")
    formats = {f"data.{task}": t.get("format", task) for task, t in given.items() if isinstance(t, Mapping)}
    configs = {"experiment": ExperimentConfig, "task": data.TaskConfig, "resources": Resources, "train": TrainConfig}
    configs |= {
        f"methods.{m}": methods.method(m).Config for m in methods.names() if not isinstance(listed, list) or m in listed
    }
    configs |= {where: data.data_set(f).Config for where, f in formats.items() if f in data.names()}
    homes = dict[str, None]()
    for where, config in configs.items():
        for key in fields_of(config):
            table, _, last = f"{where}.{key.replace('/', '.')}".rpartition(".")
            if name in (last, table.rpartition(".")[2]):
                homes[f"[{table}] {name}" if last == name else f"[{table}]"] = None
    return list(homes)


def _parse(tables: dict[str, Any], text: str, name: str, base: Path) -> Experiment:
    for key, value in tables.items():
        if key not in TABLES:
            raise UnknownKeyError(key, "", TABLES)
        if not isinstance(value, Mapping):
            raise UserError(f"{key} = {value!r}: [{key}] is a table", key)
    values = _pinned(ExperimentConfig, {"name": name, **tables.get("experiment", {})}, "experiment")
    if Path(values["weights"]).suffix:
        values["weights"] = _absolute(base, values["weights"], "experiment.weights")
    config = build(ExperimentConfig, values, "experiment")
    _check(config)
    resources = build(Resources, _pinned(Resources, tables.get("resources", {}), "resources"), "resources")
    _check_resources(resources)
    options, formats = _read_data(tables.get("data", {}), config, base)
    given = tables.get("methods", {})
    for method in given:
        if method not in methods.names():
            raise unknown("method", method, methods.names(), f"methods.{method}")
        read_space(methods.method(method).Config, given[method], f"methods.{method}")
    train = _checked_space(TrainConfig, with_preset(tables.get("train", {})), "train")
    if config.pruner == "median" and train["iterations"].first and not train["interval"].first:
        raise UserError("experiment.pruner = 'median' with train.iterations needs train.interval", "experiment.pruner")
    if config.retrain_on == "trainval" and set(train["epoch"].extremes) != {"last"}:
        problem = "experiment.retrain_on = 'trainval' leaves no image to choose an epoch by: train.epoch = 'last' then"
        raise UserError(problem, "experiment.retrain_on")
    return Experiment(
        name=config.name,
        config=config,
        resources=resources,
        task=_pinned(data.TaskConfig, tables.get("task", {}), "task"),
        data=options,
        formats=formats,
        train=train,
        methods={m: _checked_space(methods.method(m).Config, given.get(m, {}), f"methods.{m}") for m in config.methods},
        text=text,
        base=base,
    )


def _checked_space(config_type: type, table: Mapping[str, Any], where: str) -> Space:
    return check_space(config_type, read_space(config_type, table, where), where)


def _read_data(
    table: Mapping[str, Any], config: ExperimentConfig, base: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Options and format of each task; ``format`` in [data.NAME] lets a task have a name of its own."""
    for name in table:
        if name not in config.tasks:
            raise unknown("task in experiment.tasks for [data]", name, config.tasks, f"data.{name}")
        if not isinstance(table[name], Mapping):
            raise UserError(f"data.{name} = {table[name]!r}: a table of keys is needed", f"data.{name}")
    options, formats = {}, {}
    for task in config.tasks:
        given = dict(table.get(task, {}))
        for key in given:
            if KEYS.get(key) == "format":
                raise UnknownKeyError(key, f"data.{task}", ["format"])
        formats[task] = found = given.pop("format", task)
        if found not in data.names():
            key = "experiment.tasks" if found == task else f"data.{task}.format"
            raise unknown("data set", str(found), data.names(), key)
        options[task] = _pinned(data.data_set(found).Config, given, f"data.{task}", base)
    return options, formats


def read_experiment(path: str | Path, name: str = "") -> Experiment:
    """The experiment in a file; ``name`` ('': the file's) where it gives none. UserError with file and line."""
    path = Path(path)
    text = read_text(path)
    try:
        return parse(text, name or path.stem, path.absolute().parent)
    except UserError as problem:
        line = line_of(text, problem.key.split(".")) if problem.key else None
        raise UserError(f"{path}{f' line {line}' if line else ''}: {problem}") from None
