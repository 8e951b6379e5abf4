"""The command that says what an experiment will cost: plan."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import EXPERIMENT, Commands, add_aim, add_changes, changed_experiment
from cotuning_tune.cli._output import print_json

if TYPE_CHECKING:
    from cotuning_tune.plan import Plan


def add(commands: Commands) -> None:
    """The parser of this command."""
    text = "estimate an experiment's trials, hours, disk and memory before anything runs"
    plan = commands.add_parser("plan", help=text, description=text)
    plan.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT)
    plan.add_argument(
        "--images-per-second",
        type=float,
        metavar="N",
        help="speed of plain fine-tuning in one trial, instead of a probe",
    )
    plan.add_argument(
        "--concurrent-trials", type=int, metavar="N", help="trials at a time (default: as many as fit on this machine)"
    )
    plan.add_argument("--gpus", type=int, metavar="N", help="GPUs, each shared as [resources] says")
    plan.add_argument(
        "--repeat-search", type=int, default=1, metavar="K", help="plan K searches, as with run --repeat-search"
    )
    add_changes(plan)
    add_aim(plan)
    plan.add_argument("--no-probe", action="store_true", help="do not train: counts and sizes only")
    text = "print every figure as JSON instead (docs/json.md); with FILE: write it there, beside what is shown"
    plan.add_argument("--json", nargs="?", const="-", metavar="FILE", help=text)
    plan.set_defaults(call=_plan)


def say(line: str) -> None:
    """What takes a while, on standard error."""
    print(f"{line} ...", file=sys.stderr, flush=True)


def show_plan(plan: "Plan", searches: int) -> None:
    """Print a plan; ``searches``: as with --repeat-search."""
    from cotuning_tune.plan.write import lines_of, method_table, missing_lines, repeat_line

    print(f"{plan.experiment.name}\n{method_table(plan).markdown()}\n")
    print("\n".join(f"- {line}" for line in lines_of(plan)))
    if searches > 1:
        print(f"- {repeat_line(plan, searches)}")
    for line in [*missing_lines(plan), *(f"note: {note}" for note in plan.notes)]:
        print(line)


def _plan(options: argparse.Namespace) -> int:
    from cotuning_tune.base.files import write_json
    from cotuning_tune.plan import plan_of
    from cotuning_tune.plan.write import plan_json
    from cotuning_tune.runs.budget import check_searches

    experiment = changed_experiment(options)
    check_searches(options.repeat_search, experiment.config.hours)
    if experiment.searches > 1 and options.repeat_search > 1:
        raise UserError("--repeat-search repeats a search for a model; with aim = 'methods' there are many already")
    plan = plan_of(
        experiment,
        concurrency=options.concurrent_trials,
        gpus=options.gpus,
        images_per_second=options.images_per_second,
        probe=not options.no_probe,
        say=say,
    )
    if options.json == "-":
        print_json(plan_json(plan, options.repeat_search))
        return 0
    show_plan(plan, options.repeat_search)
    if options.json:
        try:
            write_json(Path(options.json), plan_json(plan, options.repeat_search))
        except OSError as problem:
            raise UserError(f"--json {options.json} cannot be written: {problem.strerror}") from None
    return 0
