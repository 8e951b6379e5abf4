"""The commands that work on a run: run, search, resume, retrain, extend, migrate."""

import argparse
import sys
from typing import TYPE_CHECKING

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.secrets import Secret
from cotuning_tune.cli._options import (
    EXPERIMENT,
    Commands,
    add_aim,
    add_calibration,
    add_changes,
    add_concurrent,
    add_decoding,
    decoding,
    named_experiment,
)
from cotuning_tune.cli._private import INSTEAD, storage_url
from cotuning_tune.cli._reading import show

if TYPE_CHECKING:
    from cotuning_tune.pipeline import Cluster, Request

STORAGE_HELP = "database of the studies, as postgresql://... (default: $COTUNING_TUNE_OPTUNA_STORAGE, else a journal)"


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", help="address of a running Ray cluster ('auto': this machine's)")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="wait until N nodes have joined the cluster")
    parser.add_argument("--require-token", action="store_true", help="refuse a cluster that asks for no token")
    parser.add_argument("--on-end", action="store_true", help="let the experiment's on_end command run at the end")
    text = "continue with other data than the run began with; the report will say so"
    parser.add_argument("--accept-data-change", action="store_true", help=text)
    parser.add_argument("--num-cpus", type=int, help="how many cores of this machine to use (default: all)")
    add_concurrent(parser)
    add_decoding(parser)


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT)
    parser.add_argument("--storage", default="runs", help="folder of the runs, or s3://BUCKET/PREFIX (default: runs)")
    parser.add_argument("--name", help="name of the run (default: the file's name)")
    parser.add_argument("--optuna-storage", type=storage_url, metavar="URL", help=STORAGE_HELP)
    parser.add_argument(
        "--from", dest="warm_from", metavar="RUN", help="give the sampler the finished trials of an older run"
    )
    text = "show the run in this tool too: mlflow, wandb or trackio; once for each (experiment.track)"
    parser.add_argument("--track", action="append", metavar="NAME", help=text)
    add_changes(parser)
    add_aim(parser)
    text = "run K whole searches, each with its own search seed and validation split: what another search would give"
    parser.add_argument("--repeat-search", type=int, metavar="K", help=text)
    add_calibration(parser)
    _add_cluster(parser)


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    for name, text in (
        ("run", "search, retrain the best configurations over the seeds, report"),
        ("search", "search and select, without retraining"),
    ):
        started = commands.add_parser(name, help=text, description=text)
        _add_start(started)
        started.set_defaults(call=_start, ten_crop=False)
        text = "print the plan and what check finds, and start nothing"
        started.add_argument("--dry-run", action="store_true", help=text)
        started.add_argument("--no-probe", action="store_true", help="of --dry-run: do not train for the plan")
        if name == "run":
            text = "test on ten crops, as in the paper (experiment.test_crops = 'ten')"
            started.add_argument("--ten-crop", action="store_true", help=text)
            text = "retrain on the training split alone, or on every label as published (experiment.retrain_on)"
            started.add_argument("--retrain-on", choices=("train", "trainval"), help=text)
    for name, text in (
        ("resume", "continue an interrupted run, whatever was killed"),
        ("retrain", "retrain the selected configurations over the seeds and test them once"),
    ):
        resumed = commands.add_parser(name, help=text, description=text)
        resumed.add_argument("run", metavar="RUN", help="folder of the run")
        _add_cluster(resumed)
        if name == "resume":
            add_aim(resumed)
        resumed.set_defaults(call=_resume, trials=None)
    text = "give every study of a run, finished or running, the same number of further trials, or its search more hours"
    extend = commands.add_parser("extend", help=text, description=text)
    extend.add_argument("run", metavar="RUN", help="folder of the run")
    more = extend.add_mutually_exclusive_group()
    more.add_argument("--trials", type=int, metavar="N", help="how many more trials each study gets")
    text = "how many trials each study shall have in all: the same command again extends nothing twice"
    more.add_argument("--to-trials", type=int, metavar="N", help=text)
    text = "how many more hours the search gets, where the experiment gives it hours"
    more.add_argument("--hours", type=float, metavar="H", help=text)
    add_aim(extend)
    _add_cluster(extend)
    extend.set_defaults(call=_extend)
    _add_migrate(commands)


def _add_migrate(commands: Commands) -> None:
    text = "move a run's studies to another database, or give a copied run an identity of its own"
    moved = commands.add_parser("migrate", help=text, description=text)
    moved.add_argument("run", metavar="RUN", help="folder of the run")
    moved.add_argument("--optuna-storage", type=storage_url, metavar="URL", help="where to: a database, or 'journal'")
    moved.add_argument("--new-identity", action="store_true", help="of a copy: it becomes a run of its own")
    moved.set_defaults(call=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    from cotuning_tune.runs.folder import RunDir
    from cotuning_tune.runs.lock import driver_lock
    from cotuning_tune.search.moving import migrate

    run = RunDir.open(options.run)
    with driver_lock(run, lambda line: print(line, file=sys.stderr)):
        for line in migrate(run, (options.optuna_storage or Secret()).reveal(), renew=options.new_identity):
            print(line)
    return 0


def request_of(options: argparse.Namespace) -> "Request":
    """What ``run`` and ``search`` ask."""
    from cotuning_tune.pipeline import NewRun, Request

    storage = options.optuna_storage or storage_url(INSTEAD)
    command = ("cotuning-tune", *sys.argv[1:])
    run = NewRun(storage=options.storage, optuna_storage=storage, warm_from=options.warm_from, command=command)
    return Request(
        experiment=decoding(named_experiment(options), options),
        run=run,
        retrain=options.command == "run",
        searches=options.repeat_search,
        concurrent=options.concurrent,
        cluster=_cluster(options),
        on_end=options.on_end,
        accept_data_change=options.accept_data_change,
    )


def _cluster(options: argparse.Namespace) -> "Cluster":
    from cotuning_tune.pipeline import Cluster

    return Cluster(
        address=options.address, cpus=options.num_cpus, nodes=options.nodes, require_token=options.require_token
    )


def _carry_out(request: "Request") -> int:
    """Do what is asked, shown on the terminal; the exit code."""
    from cotuning_tune.pipeline import carry_out
    from cotuning_tune.pipeline.terminal import Terminal

    outcome = carry_out(request, [Terminal()])
    if outcome.report:
        show(outcome.run, outcome.report)
    else:
        path = outcome.run.path
        print(f"selections are in {path}/studies; next: cotuning-tune retrain {path}")
    if outcome.lacking:
        print(f"cotuning-tune: {outcome.lacking}", file=sys.stderr)
    return 1 if outcome.lacking else 0


def _start(options: argparse.Namespace) -> int:
    if options.dry_run:
        from cotuning_tune.cli._check import check_run

        return check_run(options, planned=True)
    return _carry_out(request_of(options))


def _resume(options: argparse.Namespace) -> int:
    from cotuning_tune.pipeline import Request
    from cotuning_tune.pipeline.request import experiment_of
    from cotuning_tune.runs.budget import Budget

    run, experiment = experiment_of(options.run)
    small = 0
    if vars(options).get("aim") and options.aim != experiment.config.aim:
        if options.aim == "model":
            raise UserError(f"{run.path} compares methods: for the best model start a new run (--aim model --name NEW)")
        had = Budget(run, experiment.config.trials, experiment.config.hours).over or experiment.config.trials
        if not (small := options.trials or had):
            number = f"how many trials the searches share out: cotuning-tune extend {run.path} --aim methods --trials N"
            raise UserError(f"the hours of {run.path} are not used yet: say {number}")
    return _carry_out(
        Request(
            experiment=decoding(experiment, options),
            run=run,
            search=options.command != "retrain",
            small=small,
            concurrent=options.concurrent,
            cluster=_cluster(options),
            on_end=options.on_end,
            accept_data_change=options.accept_data_change,
        )
    )


def _extend(options: argparse.Namespace) -> int:
    from cotuning_tune.pipeline import extend
    from cotuning_tune.pipeline.request import experiment_of

    run, experiment = experiment_of(options.run)
    if options.aim and options.aim != experiment.config.aim:
        if options.hours is not None or options.to_trials is not None:
            raise UserError("--hours, --to-trials: small searches share trials out: --trials N")
        return _resume(options)
    given = {"more": options.trials, "to": options.to_trials, "hours": options.hours}
    if all(value is None for value in given.values()):
        raise UserError("--trials N is needed: how many more trials each study gets (or --hours H, for the search)")
    growth = extend(run, **given, accept_data_change=options.accept_data_change)
    where = f"{run.path} and of its repeats" if growth.repeats else run.path
    has = f"{growth.hours:g} hours of search in all" if growth.hours else f"a budget of {growth.trials} trials"
    print(f"each study of {where} now has {has}")
    if growth.driven:
        print(f"the driver that holds the run takes them over (if it has died: cotuning-tune resume {run.path})")
        return 0
    return _resume(options)
