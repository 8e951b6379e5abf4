"""The commands for one configuration: train, space."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from cotuning_tune.cli._options import (
    Commands,
    add_calibration,
    add_decoding,
    decoding,
    parse_values,
    with_options,
)


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    _add_train(commands)
    space = commands.add_parser("space", help="show a method's hyper-parameters and ranges")
    space.add_argument("method", metavar="METHOD")
    space.set_defaults(call=_space)


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
        return f"{metric.text(row['val_score'])}{metric.unit}"

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
