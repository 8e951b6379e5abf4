"""Options that several commands share, and what they make of an experiment."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cotuning_tune.base.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

    from cotuning_tune.experiment import Experiment

EXPERIMENT = "a file, or the name of a shipped experiment (list experiments)"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """The option ``--no-cache``, of every command that trains."""
    text = "decode image files at every use instead of once into the cache; the results are the same"
    parser.add_argument("--no-cache", action="store_true", help=text)


def decoding(experiment: "Experiment", options: argparse.Namespace) -> "Experiment":
    """The experiment, with ``task.decode`` as ``--no-cache`` says."""
    import dataclasses

    return (
        dataclasses.replace(experiment, task=experiment.task | {"decode": "each"}) if options.no_cache else experiment
    )


def add_concurrent(parser: argparse.ArgumentParser) -> None:
    """The option ``--concurrent``, of every command that starts a driver."""
    text = "how many trainings run at a time at most, where others work on the cluster too (default: as many as fit)"
    parser.add_argument("--concurrent", type=int, metavar="N", help=text)


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """The options that calibrate the source head."""
    text = "folder of the source classes' images (ImageNet: val/CLASS/*.JPEG): fits the source head's temperature"
    parser.add_argument("--source-val", metavar="DIR", help=text)
    parser.add_argument("--source-val-images", type=int, metavar="N", help="use at most N of them (default: 2000)")


AIM_HELP = "model: one search for the best model; methods: many small ones that tell which method is better"


def add_aim(parser: argparse.ArgumentParser) -> None:
    """The option ``--aim``."""
    parser.add_argument("--aim", choices=("model", "methods"), help=AIM_HELP)


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option ``--json``, of every command that shows something."""
    parser.add_argument("--json", action="store_true", help="print it as JSON instead (docs/json.md)")


def add_changes(parser: argparse.ArgumentParser) -> None:
    """The option ``--set``, of every command that takes an experiment as a whole."""
    text = "change a key of the experiment, as train.epochs=3 or methods.co_tuning.weight=[0.1,1]; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def changed_experiment(options: argparse.Namespace, name: str = "") -> "Experiment":
    """The experiment of EXPERIMENT, its text changed by ``--set`` and by the options of ``with_options``."""
    from cotuning_tune.base.toml_text import dotted
    from cotuning_tune.experiment import read_experiment

    changes = {}
    for key, value in parse_values(options.set, "train.epochs=3").items():
        try:
            changes[dotted(key)] = value
        except UserError:
            raise UserError(f"--set {key}=...: a dotted key is needed, as train.epochs") from None
    return with_options(read_experiment(options.experiment, name, changes), options)


def named_experiment(options: argparse.Namespace) -> "Experiment":
    """The same under the name of ``--name``, where there is one."""
    import dataclasses

    from cotuning_tune.base.names import check_name

    name = "" if options.name is None else check_name(options.name, "--name")
    experiment = changed_experiment(options, name)
    return dataclasses.replace(experiment, name=name or experiment.name)


def with_options(experiment: "Experiment", options: argparse.Namespace) -> "Experiment":
    """The experiment with what ``--source-val``, ``--aim`` and others say in its text, so that a resume finds it."""
    from cotuning_tune.base.toml_text import set_key
    from cotuning_tune.experiment import parse

    text, given = experiment.text, vars(options)
    if given.get("source_val"):
        text = set_key(text, ["experiment", "source_val"], str(Path(options.source_val).expanduser().absolute()))
    if given.get("source_val_images") is not None:
        text = set_key(text, ["experiment", "source_val_images"], options.source_val_images)
    crops = "ten" if given.get("ten_crop") else None
    asked = {"test_crops": crops, **{key: given.get(key) for key in ("aim", "retrain_on", "track")}}
    for key, value in asked.items():
        if value and getattr(experiment.config, key) != value:
            text = set_key(text, ["experiment", key], value)
    return experiment if text == experiment.text else parse(text, experiment.name, experiment.base)


def parse_values(pairs: list[str], example: str) -> dict[str, object]:
    """The values of ``--set``: TOML where it can be read as such, else text. Raises UserError."""
    from cotuning_tune.base.toml_text import tables_of

    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: KEY=VALUE is needed, as {example}")
        try:
            values[key] = tables_of(f"v = {text}")["v"]
        except UserError:
            values[key] = text
    return values


def usable(package: "ModuleType", names: list[str], broken: Collection[str]) -> list[str]:
    """Those of the names of methods, data sets or backbones that are no broken plug-in."""
    return [name for name in names if name not in broken or package.plugin(name) is None]


def origin(package: "ModuleType", name: str) -> str:
    """Package and version of a plug-in; '' of what is built in."""
    plugin = package.plugin(name)
    return plugin.origin if plugin else ""


def with_origin(package: "ModuleType", name: str, about: str) -> str:
    """What a method, data set or backbone is, and where a plug-in comes from."""
    come = origin(package, name)
    return f"{about} [{come}]".strip() if come else about
