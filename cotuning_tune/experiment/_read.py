"""Reading an experiment file: every mistake is a UserError that names file and line and what is possible instead."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotuning_tune import data, methods, models
from cotuning_tune.base.errors import UnknownKeyError, UserError, unknown
from cotuning_tune.base.former_names import KEYS
from cotuning_tune.base.names import check_name
from cotuning_tune.base.toml_text import line_of, read_text, tables_of
from cotuning_tune.experiment._experiment import (
    LEAST_TRIALS,
    Experiment,
    ExperimentConfig,
    Resources,
    searches_of,
)
from cotuning_tune.hyper import Space, at_least, build, check_space, fields_of, read_space
from cotuning_tune.training import TrainConfig, with_preset

TABLES = ("experiment", "task", "data", "train", "methods", "resources")


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


def _check_aim(config: ExperimentConfig) -> None:
    if config.val_splits > 1 and config.pruner != "none":
        problem = f"experiment.val_splits = {config.val_splits} trains each trial several times: pruner = 'none' then"
        raise UserError(problem, "experiment.val_splits")
    if config.aim == "model":
        if config.searches:
            raise UserError("experiment.searches counts with aim = 'methods' alone", "experiment.searches")
        return
    count = searches_of(config)
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
