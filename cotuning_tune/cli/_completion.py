"""The command that makes a shell complete the others: completion."""

import argparse

from cotuning_tune.cli._options import Commands

SHELLS = ("bash", "zsh", "fish", "tcsh")
FILES = ("EXPERIMENT", "FILE", "CSV")  # arguments that are files, by what the help calls them
FOLDERS = ("RUN", "DIR", "FOLDER", "EXPORT", "storage", "out")


def add(commands: Commands) -> None:
    """The parser of this command."""
    text = "print a script that completes commands, options and paths in your shell"
    epilog = 'bash: eval "$(cotuning-tune completion bash)" in ~/.bashrc'
    completion = commands.add_parser("completion", help=text, description=text, epilog=epilog)
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(call=_completion)


def _mark_paths(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments of the parser, and of the commands below it, are paths."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _mark_paths(inner)
        elif (action.metavar or action.dest) in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif (action.metavar or action.dest) in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _completion(options: argparse.Namespace) -> int:
    import shtab

    from cotuning_tune.cli import make_parser

    parser = make_parser()
    _mark_paths(parser)
    print(shtab.complete(parser, options.shell))
    return 0
