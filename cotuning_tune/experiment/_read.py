"""Reading an experiment file: every mistake is a UserError that names file and line and what is possible instead."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotuning_tune import data, methods, models
from cotuning_tune.base.errors import UnknownKeyError, UserError, unknown
from cotuning_tune.base.former_names import KEYS
from cotuning_tune.base.names import JOINT, check_name
from cotuning_tune.base.toml_text import line_of, read_text, tables_of
from cotuning_tune.experiment._experiment import (
    LEAST_TRIALS,
    Experiment,
    ExperimentConfig,
    Resources,
    searches_of,
)
from cotuning_tune.hyper import Space, at_least, build, check_space, fields_of, overlaid, read_space
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


def _unordered(listed: Any) -> Any:
    """What is the same when listed twice: ``a+b`` and ``b+a`` are one method."""
    return frozenset(listed.split(JOINT)) if isinstance(listed, str) else listed


def _check_lists(config: ExperimentConfig) -> None:
    for name in ("tasks", "rates", "methods", "seeds"):
        if not (listed := getattr(config, name)):
            raise UserError(f"experiment.{name} is empty: list at least one", f"experiment.{name}")
        if len({_unordered(one) for one in listed}) < len(listed):
            raise UserError(f"experiment.{name} lists something twice: {list(listed)}", f"experiment.{name}")
    for rate in config.rates:
        if not 0 < rate <= 1:
            problem = f"experiment.rates: {rate:g} is not a sampling rate: it must be above 0 and at most 1"
            raise UserError(problem, "experiment.rates")


def _check(config: ExperimentConfig) -> None:
    _check_lists(config)
    models.family_of(config.backbone, "experiment.backbone")
    least_trials = 0 if config.hours else 1
    at_least(config, "experiment", hours=0, source_val_images=1, trials=least_trials, val_splits=1, searches=0)
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
    if config.hours:
        problem = "experiment.hours counts with aim = 'model' alone: many searches share trials out, the same for each"
        raise UserError(problem, "experiment.hours")
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
    known = ("experiment", "data", "methods")
    asked, given, own = (t if isinstance(t := tables.get(table), Mapping) else {} for table in known)
    listed = asked.get("methods")
    variants = {n: kind for n, t in own.items() if isinstance(t, Mapping) and (kind := t.get("method"))}
    parts = {part for name in listed for part in str(name).split(JOINT)} if isinstance(listed, list) else None
    formats = {f"data.{task}": t.get("format", task) for task, t in given.items() if isinstance(t, Mapping)}
    configs = {"experiment": ExperimentConfig, "task": data.TaskConfig, "resources": Resources, "train": TrainConfig}
    configs |= {f"methods.{m}": methods.method(m).Config for m in methods.names() if parts is None or m in parts}
    configs |= {f"methods.{n}": methods.method(kind).Config for n, kind in variants.items() if kind in methods.names()}
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
    asked = {"name": name, **tables.get("experiment", {})}
    values = _pinned(ExperimentConfig, {"trials": 0, **asked} if asked.get("hours") else asked, "experiment")
    if Path(values["weights"]).suffix:
        values["weights"] = _absolute(base, values["weights"], "experiment.weights")
    config = build(ExperimentConfig, values, "experiment")
    _check(config)
    resources = build(Resources, _pinned(Resources, tables.get("resources", {}), "resources"), "resources")
    _check_resources(resources)
    options, formats = _read_data(tables.get("data", {}), config, base)
    kinds, given = _read_methods(tables.get("methods", {}), config)
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
        methods={m: _method_space(m, kinds[m], given) for m in config.methods},
        kinds={m: kinds[m] for m in config.methods},
        text=text,
        base=base,
    )


def _checked_space(config_type: type, table: Mapping[str, Any], where: str) -> Space:
    return check_space(config_type, read_space(config_type, table, where), where)


def _read_methods(tables: Mapping[str, Any], config: ExperimentConfig) -> tuple[dict[str, str], dict[str, Any]]:
    """What each method is, and its table; ``method`` in [methods.NAME] gives a variant a name of its own."""
    kinds, given = dict[str, str](), dict[str, Any]()
    for name in dict.fromkeys([*config.methods, *tables]):
        table, where = tables.get(name, {}), f"methods.{name}"
        if not isinstance(table, Mapping):
            raise UserError(f"{where} = {table!r}: a table of keys is needed", where)
        given[name] = {key: value for key, value in table.items() if key != "method"}
        if "method" in table:
            kinds[name] = _variant(name, table["method"], where)
        else:
            kinds[name] = name
            methods.method(name, "experiment.methods" if name in config.methods else where)
        read_space(methods.method(kinds[name]).Config, given[name], where)
    return kinds, given


def _variant(name: str, kind: Any, where: str) -> str:
    if not isinstance(kind, str):
        raise UserError(f"{where}.method = {kind!r}: a method's name in quotes is needed", f"{where}.method")
    if name in methods.names():
        problem = f"{where}.method: {name} is a method itself, and a variant needs a name of its own"
        raise UserError(problem, f"{where}.method")
    check_name(name, "the variant", "[methods.NAME] with a method gives a variant its name", where)
    methods.method(kind, f"{where}.method")
    return kind


def _method_space(name: str, kind: str, given: Mapping[str, Any]) -> Space:
    """The space of a method; of ``a+b`` those of its parts as they are alone, and over them its own table."""
    parts = kind.split(JOINT)
    table = {part: given.get(part, {}) for part in parts} if len(parts) > 1 else {}
    return _checked_space(methods.method(kind).Config, overlaid(table, given[name]), f"methods.{name}")


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
