"""The commands that read runs: report, status, compare, tensorboard."""

import argparse
import sys
from typing import Any

COPY_EVERY_S = 20


def add(commands: Any) -> None:
    """The parsers of these commands."""
    for name, text, call in (
        ("report", "write and show the tables of a run", _report),
        ("status", "show how far a run is", _status),
    ):
        reader = commands.add_parser(name, help=text, description=text)
        reader.add_argument("run", metavar="RUN", help="folder of the run")
        reader.set_defaults(call=call)
    text = "show several runs in one table, and what they do not share"
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument(
        "runs", metavar="RUN", nargs="+", help="folders of two runs or more; the first is the reference"
    )
    compare.add_argument("--out", help="folder for a page, Markdown, CSV and LaTeX (default: shown only)")
    compare.set_defaults(call=_compare)
    board = commands.add_parser("tensorboard", help="open TensorBoard on a run (127.0.0.1)")
    board.add_argument("run", metavar="RUN")
    board.add_argument("--port", type=int, default=6006)
    board.set_defaults(call=_tensorboard)


def summary(run: Any, done: bool) -> int:
    """Show the report, and where everything lies; the exit code."""
    from cotuning_tune.report import write_figures, write_report

    report = write_report(run)
    write_figures(run)
    print(f"\n{report.terminal()}")
    print(f"\nreport       {run.report / 'report.md'}")
    print(f"page         {run.report / 'index.html'}")
    print(f"TensorBoard  cotuning-tune tensorboard {run.path}")
    return 0 if done else 1


def _report(options: argparse.Namespace) -> int:
    from cotuning_tune.run_dir import RunDir

    return summary(RunDir.open(options.run), done=True)


def _compare(options: argparse.Namespace) -> int:
    from cotuning_tune.files import place
    from cotuning_tune.report import comparison_report, read_runs, write_comparison
    from cotuning_tune.run_dir import RunDir

    report = comparison_report(read_runs([RunDir.open(run) for run in options.runs]))
    for table in report.tables:
        print(f"{table.title}\n{table.markdown()}\n{table.note}\n")
    print("\n".join(f"- {remark}" for remark in report.remarks))
    if options.out:
        write_comparison(place(options.out), report)
        print(f"\nwritten to {options.out}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from cotuning_tune.lock import holder
    from cotuning_tune.run_dir import RunDir
    from cotuning_tune.search.checks import disk_line
    from cotuning_tune.search.driver import load_experiment
    from cotuning_tune.search.status import repeats_table, status_table

    run = RunDir.open(options.run)
    experiment = load_experiment(run)
    print(status_table(run, experiment).markdown())
    if run.searches > 1:
        print(f"\n{run.searches} searches in all; the first one is the run itself\n{repeats_table(run).markdown()}\n")
    print(disk_line(run, experiment))
    owner = holder(run)
    if owner:
        print(f"being worked on by {owner['user']} on {owner['host']} (process {owner['pid']})")
    else:
        print(f"no driver is running; to go on: cotuning-tune resume {run.path}")
    return 0


def _tensorboard(options: argparse.Namespace) -> int:
    import os

    from cotuning_tune.files import is_local
    from cotuning_tune.run_dir import RunDir

    run = RunDir.open(options.run)
    command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", str(options.port)]
    if is_local(run.path):
        os.execv(sys.executable, [*command, "--logdir", str(run.tensorboard)])
    return _tensorboard_of_copy(run, command)


def _tensorboard_of_copy(run: Any, command: list[str]) -> int:
    """TensorBoard on a copy of the event files of an object store, brought up to date now and then."""
    import subprocess
    import tempfile
    from pathlib import Path

    from cotuning_tune.files import fetch_folder

    with tempfile.TemporaryDirectory(prefix="cotuning_tune-") as folder:
        fetch_folder(run.tensorboard, Path(folder))
        print(f"a copy of {run.tensorboard}, brought up to date every {COPY_EVERY_S} s", flush=True)
        with subprocess.Popen([*command, "--logdir", folder]) as board:
            try:
                while True:
                    try:
                        return board.wait(COPY_EVERY_S)
                    except subprocess.TimeoutExpired:
                        fetch_folder(run.tensorboard, Path(folder))
            finally:
                board.terminate()
