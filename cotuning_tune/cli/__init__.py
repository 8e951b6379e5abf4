"""The command ``cotuning-tune``. Each command imports its stage inside, so that ``--help`` is fast.

A file here is a group of commands: ``add`` makes their parsers, which name the function to call.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import NoReturn

from cotuning_tune import __version__
from cotuning_tune.base import former_names
from cotuning_tune.base.endings import UNFINISHED, Ending, ending_of
from cotuning_tune.base.errors import Unfinished, UserError, unknown
from cotuning_tune.base.secrets import masked
from cotuning_tune.cli import (
    _check,
    _completion,
    _data,
    _export,
    _init,
    _launch,
    _listing,
    _plan,
    _reading,
    _running,
    _serve,
    _server,
    _tensorboard,
    _training,
)
from cotuning_tune.cli._output import Output, ReaderLeft, lasting_output
from cotuning_tune.cli._private import leave_process_list
from cotuning_tune.cluster.signals import ending_cleanly, surviving_hang_up

DRIVING = ("run", "search", "resume", "retrain", "extend", "migrate")
GROUPS = (
    _init,
    _running,
    _launch,
    _serve,
    _plan,
    _check,
    _reading,
    _tensorboard,
    _training,
    _listing,
    _export,
    _data,
    _completion,
)


class Parser(argparse.ArgumentParser):
    """A mistake on the command line is one line, as any other."""

    def error(self, message: str) -> NoReturn:
        """Say it and exit with 2; of an unknown word also which one is near."""
        if found := re.fullmatch(r"argument (.+?): invalid choice: (.+) \(choose from (.+)\)", message):
            kind, word, known = found[1].lower().replace("|", " or "), found[2], found[3]
            message = str(unknown(kind, word.strip("'"), known.replace("'", "").split(", ")))
        self.exit(2, f"{self.prog}: {masked(message)} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="cotuning-tune",
        description="Hyper-parameter search for transfer learning: co-tuning and baselines on equal terms.",
        epilog="Exit codes: 0 done, 2 a mistake in what was given, 75 another driver works on the run,"
        " 85 unfinished: resume continues, 1 failed.",
    )
    text = "let a service carry it out (COTUNING_TUNE_SERVER): --server URL --help says what it knows"
    parser.add_argument("--server", metavar="URL", help=text)
    parser.add_argument("--version", action="version", version=f"cotuning-tune {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add(commands)
    return parser


def _refuse_former_names(words: list[str]) -> None:
    """Raises UserError for an option or an environment variable that has another name now."""
    for word in (word.partition("=")[0] for word in words):
        if now := former_names.OPTIONS.get(word):
            raise UserError(f"the option {word} is called {now} now")
    for name, now in former_names.VARIABLES.items():
        if name in os.environ:
            raise UserError(f"the environment variable {name} is called {now} now: unset the former one")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main(arguments: list[str] | None = None, say: Callable[[str], None] = _say) -> int:
    """Run a command; the exit code. A user's mistake is one line on standard error (``say``) and 2.

    What is a fault of the program is raised.
    """
    if arguments is None:
        leave_process_list()
    words = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("TERM") == "dumb":
        os.environ.setdefault("NO_COLOR", "1")  # what libraries ask for
    with lasting_output() as output:
        try:
            code = _run(words, output)
            sys.stdout.flush()  # what a full disk does not take is a failure too
            return code
        except ReaderLeft:
            return 0
        except (Exception, KeyboardInterrupt, Unfinished) as problem:
            if (ending := ending_of(problem, drives=output.drives)) is None:
                problem.add_note(_fault(problem, output.drives))  # stands below the traceback
                raise
            return _tell(problem, ending, say)


def _run(words: list[str], output: Output) -> int:
    _refuse_former_names(words)
    url, words = _server.asked(words, os.environ.get("COTUNING_TUNE_SERVER", ""))
    if url:
        return _server.carry_out(url, _server.make_parser(Parser).parse_args(words))
    options = make_parser().parse_args(words)
    output.drives = options.command in DRIVING
    output.for_reader = vars(options).get("for_reader", False)
    with ending_cleanly(), surviving_hang_up() if output.drives else nullcontext():
        code: int = options.call(options)
        return code


def _tell(problem: BaseException, ending: Ending, say: Callable[[str], None]) -> int:
    """Say in one line what has ended the command; the exit code."""
    start = "\n" if isinstance(problem, KeyboardInterrupt) else ""
    more = "; nothing is lost, 'resume' continues" if ending.code == UNFINISHED else ""
    say(f"{start}cotuning-tune: {ending.line}{more}")
    return ending.code


def _fault(problem: BaseException, drives: bool) -> str:
    more = "; what is finished is kept, 'resume' continues" if drives else ""
    return f"cotuning-tune: a fault of the program ({type(problem).__name__}): please report it with these lines{more}"
