"""The command that writes a first experiment for a folder of photos: init."""

import argparse
import shlex
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import Commands


def add(commands: Commands) -> None:
    """The parser of this command."""
    text = "look at a folder of photos, and write an experiment for it and this machine, each line with its reason"
    init = commands.add_parser("init", help=text, description=text)
    init.add_argument("folder", metavar="FOLDER", help="train/CLASS/*.jpg and test/CLASS/*.jpg, or a folder a class")
    init.add_argument("--out", metavar="FILE", help="the experiment file (default: FOLDER.toml, here)")
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    init.set_defaults(call=_init)


def _init(options: argparse.Namespace) -> int:
    from cotuning_tune.base.files import write_bytes
    from cotuning_tune.cli._plan import say
    from cotuning_tune.pipeline.propose import name_for, propose

    folder = Path(options.folder)
    out = Path(options.out or f"{name_for(folder.expanduser().absolute())}.toml")
    if out.exists() and not options.force:
        raise UserError(f"{out} is there already: --force replaces it, --out FILE names another")
    found = propose(folder, out, say)
    write_bytes(out, found.text.encode())
    print(found.text)
    if found.problem:
        print(f"problem: {found.problem}")
    print(f"written to {out}; next:")
    for command in ("check", "run"):
        print(f"  {shlex.join(['cotuning-tune', command, str(out)])}")
    return 0
