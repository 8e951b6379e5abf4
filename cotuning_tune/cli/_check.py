"""The command that asks all that could fail later, now: check."""

import argparse
import sys

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import (
    EXPERIMENT,
    Commands,
    add_aim,
    add_changes,
    add_decoding,
    decoding,
    named_experiment,
)
from cotuning_tune.cli._private import INSTEAD, storage_url


def add(commands: Commands) -> None:
    """The parser of this command."""
    text = "find all that could fail later, in one list: file, data, weights, methods, room, storage"
    codes = "Exit codes: 0 no problem, warnings perhaps; 2 a problem."
    check = commands.add_parser("check", help=text, description=text, epilog=codes)
    check.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT)
    check.add_argument("--storage", default="runs", help="folder of the runs, or s3://BUCKET/PREFIX (default: runs)")
    check.add_argument("--name", help="name of the run (default: the file's name)")
    text = "database of the studies (default: $COTUNING_TUNE_OPTUNA_STORAGE, else a journal)"
    check.add_argument("--optuna-storage", type=storage_url, metavar="URL", help=text)
    check.add_argument("--on-end", action="store_true", help="the run will be given --on-end")
    check.add_argument("--no-probe", action="store_true", help="do not train for the plan: memory is not checked")
    add_decoding(check)
    add_changes(check)
    add_aim(check)
    check.set_defaults(call=_check)


def _check(options: argparse.Namespace) -> int:
    return check_run(options, planned=False)


def check_run(options: argparse.Namespace, *, planned: bool) -> int:
    """Print what is found, after the plan where ``planned``; 2 where there is a problem."""
    from cotuning_tune.cli._plan import say, show_plan
    from cotuning_tune.pipeline.check import asked, check

    try:
        experiment = decoding(named_experiment(options), options)
    except UserError as problem:
        print(f"problem  file: {problem}")
        return 2
    studies = options.optuna_storage or storage_url(INSTEAD)
    probe, on_end = not options.no_probe, options.on_end
    what = asked(experiment, options.storage, studies, on_end=on_end, probe=probe, say=say)
    if planned and not isinstance(what.plan, UserError):
        show_plan(what.plan, vars(options).get("repeat_search") or 1)
        print()
    print(f"ok       file: {options.experiment}")
    states = []
    for found in check(what):
        states.append(found.state)
        print(found.line, flush=True)
    problems, warnings = states.count("problem"), states.count("warning")
    print(f"{problems} problem(s), {warnings} warning(s)")
    if problems:
        print("cotuning-tune: nothing would be gained by starting this: see the problems above", file=sys.stderr)
    return 2 if problems else 0
