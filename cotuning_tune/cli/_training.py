"""The commands for one configuration and for what there is: train, space, list."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import (
    Commands,
    add_calibration,
    add_decoding,
    add_json,
    decoding,
    origin,
    parse_values,
    usable,
    with_options,
)
from cotuning_tune.cli._output import print_json

KINDS = {"methods": "method", "data": "data set", "models": "backbone", "experiments": "shipped experiment"}


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    _add_train(commands)
    space = commands.add_parser("space", help="show a method's hyper-parameters and ranges")
    space.add_argument("method", metavar="METHOD")
    space.set_defaults(call=_space)
    listing = commands.add_parser(
        "list", help="list the methods, data sets, backbones or shipped experiments there are"
    )
    listing.add_argument("what", choices=list(KINDS))
    listing.add_argument(
        "pattern", nargs="?", default="", help="which names: 'resnet*'; timm's are listed for 'timm/*' only"
    )
    add_json(listing)
    listing.set_defaults(call=_list)


def _add_train(commands: Commands) -> None:
    text = "train one configuration without Ray, and show its validation score"
    train = commands.add_parser("train", help=text, description=text)
    train.add_argument("experiment", metavar="EXPERIMENT")
    train.add_argument("--method", required=True)
    train.add_argument("--task", help="(default: the experiment's first)")
    train.add_argument("--rate", type=float, help="(default: the experiment's first)")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a hyper-parameter, as optim/lr=0.01 or co_tuning/weight=1",
    )
    add_calibration(train)
    train.add_argument("--out", help="folder for its state: the same command continues after a kill")
    add_decoding(train)
    train.set_defaults(call=_train)


def _train(options: argparse.Namespace) -> int:
    from cotuning_tune.base.errors import unknown
    from cotuning_tune.experiment import BACKBONE, Study, read_experiment
    from cotuning_tune.runs.folder import TrialDir
    from cotuning_tune.search.checks import source_lines
    from cotuning_tune.training import TrainingJob
    from cotuning_tune.training.job import check_backbone, task_of

    experiment = decoding(with_options(read_experiment(options.experiment), options), options)
    config, values = experiment.config, parse_values(options.set, "optim/lr=0.01")
    rate = config.rates[0] if options.rate is None else options.rate
    backbone = str(values.get(BACKBONE, config.backbones[0])) if config.backbones else ""
    study = Study(options.task or config.tasks[0], rate, options.method, backbone)
    asked = [("task", study.task, config.tasks), ("method", study.method, config.methods)]
    for kind, name, listed in [*asked, *([("backbone", backbone, config.backbones)] if backbone else [])]:
        if name not in listed:
            raise unknown(f"{kind} of {options.experiment}", name, listed)
    space = experiment.space(study.method, backbone)
    for key in values:
        if key not in space:
            raise unknown("hyper-parameter", key, space)
    spec = experiment.spec(study, values, options.seed)
    check_backbone(spec)
    task_of(spec).check_duplicates()
    for line in source_lines(experiment):
        print(line)
    job = TrainingJob(spec, TrialDir(Path(options.out).resolve()) if options.out else None)
    for notice in job.notices:
        print(notice, file=sys.stderr)
    metric = experiment.metric(study.task)

    def shown(row: Mapping[str, float]) -> str:
        return f"{metric.text(row['val_score'])}{metric.unit}" if "val_score" in row else "at the end"

    while not job.finished:
        row = job.advance()
        loss = f"loss {row['train_loss']:.4f}  " if "train_loss" in row else ""
        print(f"epoch {row['epoch']}/{job.epochs}  {loss}validation {shown(row)}", flush=True)
    kept = job.kept or {}
    print(f"validation {metric.shown} {shown(kept)} in epoch {kept['epoch']} ({study.name}, seed {options.seed})")
    return 0


def _space(options: argparse.Namespace) -> int:
    from cotuning_tune.base.tables import Table
    from cotuning_tune.hyper import default_of, fields_of
    from cotuning_tune.methods import method
    from cotuning_tune.training import TrainConfig

    rows = []
    for prefix, config in (
        ("train", TrainConfig),
        (f"methods.{options.method}", method(options.method).Config),
    ):
        for key, (item, _) in fields_of(config).items():
            search = item.metadata.get("search")
            shown = (
                str(search).replace("Range(", "").replace("Choice(options=", "").removesuffix(")")
                if search
                else "pinned"
            )
            doc = item.metadata.get("doc", "")
            rows.append([f"{prefix}.{key.replace('/', '.')}", str(default_of(item)), shown, doc])
    print(Table("space", "", ["key", "default", "searched by default", "meaning"], rows).markdown())
    return 0


def _list(options: argparse.Namespace) -> int:
    rows, wrong = _experiments(options.pattern) if options.what == "experiments" else _found(options)
    if options.pattern and not rows and not wrong:
        raise UserError(f"no {KINDS[options.what]} matches '{options.pattern}'")
    if options.json:
        print_json({"what": options.what, "found": rows, "broken": wrong})
        return 0
    for row in rows:
        text = f"{row['about']} [{row['origin']}]" if row["origin"] else row["about"]
        print(f"{row['name']:<24}{text.strip()}".rstrip())
    for name, line in wrong.items():
        print(f"{name:<24}broken: {line}")
    return 0


def _experiments(pattern: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The shipped experiments that match."""
    import fnmatch

    from cotuning_tune.base.shipped import about, shipped_experiments

    found = shipped_experiments()
    names = fnmatch.filter(found, pattern or "*")
    return [{"name": name, "about": about(found[name]), "origin": ""} for name in names], {}


def _found(options: argparse.Namespace) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The methods, data sets or backbones that match; and why plug-ins cannot be used, by name."""
    import fnmatch
    import importlib

    package = importlib.import_module(f"cotuning_tune.{options.what}")
    models, pattern = options.what == "models", options.pattern or "*"
    wrong = {name: line for name, line in package.broken().items() if fnmatch.fnmatch(name, pattern)}
    # timm's are so many that only a pattern of their own finds them
    found = package.names(options.pattern) if models else fnmatch.filter(package.names(), pattern)
    rows = [
        {"name": name, "about": "" if models else package.about(name), "origin": origin(package, name)}
        for name in usable(package, found, wrong)
    ]
    return rows, wrong
