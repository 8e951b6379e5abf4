"""The commands that read runs: report, status, compare."""

import argparse
import sys
from typing import TYPE_CHECKING

from cotuning_tune.cli._options import Commands, add_aim, add_json
from cotuning_tune.cli._output import print_json

if TYPE_CHECKING:
    from cotuning_tune.report import Report
    from cotuning_tune.runs.folder import RunDir


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    for name, text, call in (
        ("report", "write the report of a run, and show its tables", _report),
        ("status", "show the progress of a run", _status),
    ):
        reader = commands.add_parser(name, help=text, description=text)
        reader.add_argument("run", metavar="RUN", help="folder of the run")
        add_json(reader)
        reader.set_defaults(call=call)
        if name == "report":
            add_aim(reader)
    text = "show several runs in one table, and how they differ"
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument(
        "runs", metavar="RUN", nargs="+", help="folders of two or more runs; the first is the reference"
    )
    compare.add_argument("--out", help="folder for a page, Markdown, CSV and LaTeX (default: shown only)")
    add_json(compare)
    compare.set_defaults(call=_compare)


def show(run: "RunDir", report: "Report") -> None:
    """Print a report, and where everything lies."""
    print(f"\n{report.terminal()}")
    print(f"\nreport       {run.report / 'report.md'}")
    print(f"page         {run.report / 'index.html'}")
    print(f"TensorBoard  cotuning-tune tensorboard {run.path}")


def _report(options: argparse.Namespace) -> int:
    from cotuning_tune.base.endings import ending_of
    from cotuning_tune.report.write import build_report, keep_report
    from cotuning_tune.runs.folder import RunDir
    from cotuning_tune.search.heads import kept_ledger_head

    run = RunDir.open(options.run)
    report = build_report(run, options.aim or "", kept_ledger_head)
    try:
        keep_report(run, report, figures=True)
    except OSError as problem:  # whoever may read a run may see its report
        _show_report(report, run, options.json)
        ending = ending_of(problem, drives=False)
        print(f"cotuning-tune: shown only, not written: {ending.line if ending else problem}", file=sys.stderr)
        return 0
    if options.json:
        _show_report(report, run, as_json=True)
    else:
        show(run, report)
    return 0


def _show_report(report: "Report", run: "RunDir", as_json: bool) -> None:
    if as_json:
        print_json({"run": str(run.path), **report.to_json()})
    else:
        print(f"\n{report.terminal()}", flush=True)


def _compare(options: argparse.Namespace) -> int:
    from cotuning_tune.base.files import place
    from cotuning_tune.report import comparison_report, read_runs, write_comparison
    from cotuning_tune.runs.folder import RunDir

    report = comparison_report(read_runs([RunDir.open(run) for run in options.runs]))
    if options.json:
        print_json({"runs": options.runs, **report.to_json()})
    else:
        for table in report.tables:
            print(f"{table.title}\n{table.markdown()}\n{table.note}\n")
        print("\n".join(f"- {remark}" for remark in report.remarks))
    if options.out:
        write_comparison(place(options.out), report)
        print(f"\nwritten to {options.out}", file=sys.stderr if options.json else sys.stdout)
    return 0


def _status(options: argparse.Namespace) -> int:
    from cotuning_tune.runs.folder import RunDir
    from cotuning_tune.runs.lock import holder
    from cotuning_tune.search.checks import disk_line
    from cotuning_tune.search.driver import load_experiment
    from cotuning_tune.search.status import repeats_table, status_json, status_table, time_line

    run = RunDir.open(options.run)
    experiment = load_experiment(run)
    if options.json:
        print_json(status_json(run, experiment, holder(run)))
        return 0
    print(status_table(run, experiment).markdown())
    if run.searches > 1:
        print(f"\n{run.searches} searches in all; the first one is the run itself\n{repeats_table(run).markdown()}\n")
    if line := time_line(run, experiment):
        print(line)
    print(disk_line(run, experiment))
    owner = holder(run)
    if owner:
        print(f"being worked on by {owner['user']} on {owner['host']} (process {owner['pid']})")
    else:
        print(f"no driver is running; to continue: cotuning-tune resume {run.path}")
    return 0
