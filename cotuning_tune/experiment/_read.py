"""Reading an experiment file: every mistake is a UserError that names file and line and what is possible instead."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cotuning_tune import data, methods, models
from cotuning_tune.base.errors import UnknownKeyError, UserError, unknown
from cotuning_tune.base.former_names import KEYS
from cotuning_tune.base.names import JOINT, check_name
from cotuning_tune.base.shipped import located
from cotuning_tune.base.toml_text import line_of, read_text, set_key, tables_of
from cotuning_tune.experiment._experiment import (
    BACKBONE,
    LEAST_TRIALS,
    SIZE,
    Experiment,
    ExperimentConfig,
    Resources,
    searches_of,
)
from cotuning_tune.experiment._keys import TABLES, homes_of, whole_key
from cotuning_tune.hyper import Parameter, Space, at_least, build, check_space, fields_of, overlaid, read_space
from cotuning_tune.scores import check_metric
from cotuning_tune.trackers import check_names
from cotuning_tune.training import TrainConfig, with_preset


def _pinned(config_type: type, table: Mapping[str, Any], where: str, base: Path = Path()) -> dict[str, Any]:
    """The flat values of a table in which nothing may be searched; paths are made absolute from ``base``."""
    return _but_one(config_type, table, where, "", base)[0]


def _but_one(
    config_type: type, table: Mapping[str, Any], where: str, free: str, base: Path = Path()
) -> tuple[dict[str, Any], Parameter]:
    """The flat values of a table in which ``free`` alone may be searched, and that parameter; of ``free`` the first.

    Paths are made absolute from ``base``.
    """
    values: dict[str, Any] = {}
    known, space = fields_of(config_type), read_space(config_type, table, where)
    for key, parameter in space.items():
        if parameter.search is not None and key != free:
            raise UserError(f"{where}.{key} cannot be searched: give it one value", f"{where}.{key}")
        value = parameter.first
        if known[key][0].metadata.get("path") and value:
            value = _absolute(base, value, f"{where}.{key}")
        values[key] = value
    searched = space.get(free, Parameter(None))
    for value in searched.extremes:
        build(config_type, values | ({free: value} if free else {}), where)
    return values, searched


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
        _check_once(name, listed)
    for rate in config.rates:
        if not 0 < rate <= 1:
            problem = f"experiment.rates: {rate:g} is not a sampling rate: it must be above 0 and at most 1"
            raise UserError(problem, "experiment.rates")


def _check_once(name: str, listed: tuple[Any, ...]) -> None:
    if len({_unordered(one) for one in listed}) < len(listed):
        raise UserError(f"experiment.{name} lists something twice: {list(listed)}", f"experiment.{name}")


def _check_backbones(config: ExperimentConfig, searched: Parameter) -> None:
    if config.backbone and config.backbones:
        problem = "experiment.backbone and experiment.backbones exclude each other: a list of backbone is searched in"
        raise UserError(f"{problem} every study, each of backbones has studies of its own", "experiment.backbones")
    if not (config.backbone or config.backbones):
        told = "experiment.backbone is missing: give it a name, or a list to search; or list experiment.backbones"
        raise UserError(f"{told}, each with studies of its own", "experiment")
    key, listed = ("backbones", config.backbones) if config.backbones else (BACKBONE, searched.extremes)
    _check_once(key, listed)
    for name in listed:
        models.family_of(name, f"experiment.{key}")
    if len(listed) > 1 and Path(config.weights).suffix:
        problem = f"experiment.weights = '{config.weights}' are those of one backbone, and there are {len(listed)}"
        raise UserError(f"{problem}: leave them out for the published ones of each", "experiment.weights")


def _check(config: ExperimentConfig) -> None:
    _check_lists(config)
    least_trials = 0 if config.hours else 1
    at_least(config, "experiment", hours=0, source_val_images=1, trials=least_trials, val_splits=1, searches=0)
    _check_aim(config)
    check_names(config.track)
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
    if not 0 <= resources.state_every < math.inf:
        problem = f"resources.state_every = {resources.state_every:g}: seconds, 0 for a state after each epoch"
        raise UserError(problem, "resources.state_every")
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
        raise problem.with_homes(homes_of(problem.name, tables)) from None


def _parse(tables: dict[str, Any], text: str, name: str, base: Path) -> Experiment:
    for key, value in tables.items():
        if key not in TABLES:
            raise UnknownKeyError(key, "", TABLES)
        if not isinstance(value, Mapping):
            raise UserError(f"{key} = {value!r}: [{key}] is a table", key)
    asked = {"name": name, **tables.get("experiment", {})}
    asked = {"trials": 0, **asked} if asked.get("hours") else asked
    values, backbone = _but_one(ExperimentConfig, asked, "experiment", BACKBONE)
    if Path(values["weights"]).suffix:
        values["weights"] = _absolute(base, values["weights"], "experiment.weights")
    config = build(ExperimentConfig, values, "experiment")
    _check_backbones(config, backbone)
    _check(config)
    resources = build(Resources, _pinned(Resources, tables.get("resources", {}), "resources"), "resources")
    _check_resources(resources)
    options, formats = _read_data(tables.get("data", {}), config, base)
    kinds, given = _read_methods(tables.get("methods", {}), config)
    task, size = _but_one(data.TaskConfig, tables.get("task", {}), "task", "size")
    train, trains = _read_trains(tables, config, backbone)
    for space in (train, *trains.values()):
        _check_train(space, config)
    _check_modalities(config, formats, backbone, trains or dict.fromkeys(backbone.extremes, train))
    return Experiment(
        name=config.name,
        config=config,
        resources=resources,
        task=task,
        data=options,
        formats=formats,
        metrics={task: _metric(task, data.data_set(formats[task]), config.metric) for task in config.tasks},
        train=train,
        methods={m: _method_space(m, kinds[m], given) for m in config.methods},
        kinds={m: kinds[m] for m in config.methods},
        placed={BACKBONE: backbone if config.backbone else Parameter(config.backbones[0]), SIZE: size},
        trains=trains,
        text=text,
        base=base,
    )


def _metric(task: str, kind: type[data.DataSet], asked: str) -> str:
    """What a task is judged by: as asked, else as its data set is."""
    return check_metric(asked, kind.metrics, f"the task {task}", "experiment.metric").name if asked else kind.metric


IMAGES_ALONE = ("mixup", "cutmix", "augment", "random_erasing")  # what is done to pixels


def _check_modalities(
    config: ExperimentConfig, formats: Mapping[str, str], backbone: Parameter, trains: Mapping[str, Space]
) -> None:
    """UserError where a task has no backbone that takes it, or a backbone that takes texts has images' augmentation."""
    taken = {name: models.modality_of(name) for name in config.backbones or backbone.extremes}
    key = "experiment.backbones" if config.backbones else "experiment.backbone"
    for task in config.tasks:
        wanted = data.data_set(formats[task]).modality
        fits = [modality == wanted for modality in taken.values()]
        if not (any(fits) if config.backbones else all(fits)):
            what = f"the task {task} consists of {wanted}, and {' and '.join(taken)} take{'s' * (len(taken) == 1)} none"
            cure = "texts need one as hf/FOLDER" if wanted == "text" else "list experiment.backbones, one for each"
            raise UserError(f"{what}: {cure}", key)
    if config.source_val and "text" in taken.values():
        problem = "experiment.source_val are images that calibrate a source head, and a backbone here takes texts"
        raise UserError(problem, "experiment.source_val")
    for name, space in trains.items():
        default = read_space(TrainConfig, {}, "train")
        changed = [k for k in IMAGES_ALONE if space[k].extremes != default[k].extremes]
        if taken[name] == "text" and changed:
            raise UserError(f"train.{changed[0]} is done to images, and {name} takes texts", f"train.{changed[0]}")


def _check_train(train: Space, config: ExperimentConfig) -> None:
    if config.pruner == "median" and train["iterations"].first and not train["interval"].first:
        raise UserError("experiment.pruner = 'median' with train.iterations needs train.interval", "experiment.pruner")
    if config.retrain_on == "trainval" and set(train["epoch"].extremes) != {"last"}:
        problem = "experiment.retrain_on = 'trainval' leaves no image to choose an epoch by: train.epoch = 'last' then"
        raise UserError(problem, "experiment.retrain_on")


def _read_trains(
    tables: Mapping[str, Any], config: ExperimentConfig, backbone: Parameter
) -> tuple[Space, dict[str, Space]]:
    """The space of the training, and that of each backbone with studies of its own, [backbones.NAME.train] applied.

    Where there are several backbones, BatchNorm's mode is pinned for those that have none.
    """
    given, own = with_preset(tables.get("train", {})), tables.get("backbones", {})
    train = _checked_space(TrainConfig, given, "train")
    if not config.backbones:
        if own:
            problem = "[backbones] gives ranges to studies of one backbone each: that needs experiment.backbones = "
            why = "; where experiment.backbone is searched, all backbones of a study share one space"
            raise UserError(f"{problem}[...]{why if backbone.search else ''}", "backbones")
        return (_without_norms(train, backbone.extremes) if backbone.search else train), {}
    for name in own:
        if name not in config.backbones:
            raise unknown("backbone in experiment.backbones for [backbones]", name, config.backbones, "backbones")
    trains = {name: _own_train(given, own.get(name, {}), train, name) for name in config.backbones}
    return train, {name: _without_norms(space, (name,)) for name, space in trains.items()}


def _own_train(given: Mapping[str, Any], table: Any, train: Space, name: str) -> Space:
    """The training's space with what ``[backbones.NAME]`` changes."""
    where = f"backbones.{name}"
    if not isinstance(table, Mapping) or not isinstance(own := table.get("train", {}), Mapping):
        raise UserError(f"{where} = {table!r}: a table [{where}.train] is needed", where)
    for key in table:
        if key != "train":
            raise UnknownKeyError(key, where, ["train"])
    if not own:
        return train
    changed = with_preset(own) if "preset" in own else own
    read_space(TrainConfig, changed, f"{where}.train")
    try:
        return _checked_space(TrainConfig, overlaid(given, changed), "train")
    except UserError as problem:
        raise UserError(f"{where}: {problem}", f"{where}.{problem.key}") from None


def _without_norms(train: Space, backbones: tuple[str, ...]) -> Space:
    """The space with BatchNorm's mode pinned where it is searched and none of the backbones has any."""
    norms = train["batch_norm"]
    if norms.search is None or any(map(models.has_batch_norm, backbones)):
        return train
    return train | {"batch_norm": Parameter(norms.first)}


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


def read_experiment(
    path: str | Path, name: str = "", changes: Mapping[tuple[str, ...], object] = MappingProxyType({})
) -> Experiment:
    """The experiment in a file, or a shipped one by its name; ``name`` ('': the file's) where it gives none.

    UserError with file and line.
    ``changes``: values of keys that its text gets first, also by the end of the key where no other ends so; a mistake
    in one of them names the key.
    """
    path, base = located(path)
    text = changed = read_text(path)
    try:
        tables = tables_of(text)
        changes = {whole_key(key, tables): value for key, value in changes.items()}
        for key, value in changes.items():
            changed = set_key(changed, key, value)
        return parse(changed, name or path.stem, base)
    except UserError as problem:
        wrong = tuple(problem.key.split(".")) if problem.key else ()
        line = line_of(text, wrong) if wrong else None
        blamed = next((key for key in changes if wrong and key[: len(wrong)] == wrong[: len(key)]), ())
        if blamed and (len(wrong) > 1 or not line):
            raise UserError(f"--set {'.'.join(blamed)}: {problem}") from None
        raise UserError(f"{path}{f' line {line}' if line else ''}: {problem}") from None
