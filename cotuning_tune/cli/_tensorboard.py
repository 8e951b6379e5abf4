"""The command tensorboard: one run, or several side by side."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cotuning_tune.cli._options import Commands

if TYPE_CHECKING:
    from cotuning_tune.runs.folder import RunDir


COPY_EVERY_S = 20
CURVES = "#custom_scalars&regexInput=methods/&_smoothingWeight=0"  # more than 40 folders are not drawn unasked
PICTURES = "#images&regexInput=retrain/"


def add(commands: Commands) -> None:
    """The parser of this command."""
    text = "open TensorBoard on a run, or on several side by side (127.0.0.1)"
    board = commands.add_parser("tensorboard", help=text, description=text)
    board.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs")
    board.add_argument("--port", type=int, default=6006)
    board.add_argument("--reload-interval", type=float, default=5, metavar="S", help="seconds (default: 5)")
    board.set_defaults(call=_tensorboard)


def _tensorboard(options: argparse.Namespace) -> int:
    import os

    from cotuning_tune.base.files import is_local
    from cotuning_tune.runs.folder import RunDir

    runs = list({str(run.path): run for run in map(RunDir.open, options.runs)}.values())
    _check_port(options.port)
    url = f"http://127.0.0.1:{options.port}/"
    print(f"trials {url}#hparams   methods {url}{CURVES}   mistakes {url}{PICTURES}", flush=True)
    if len(runs) == 1 and is_local(runs[0].path):
        command = _command(runs[0].tensorboard, options)
        os.execv(command[0], command)  # nosec B606 # words, no shell: TensorBoard of this environment
    return _serve_several(runs, options)


def _command(folder: Path, options: argparse.Namespace) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(options.port), "--logdir", str(folder)]
    return [sys.executable, "-m", "tensorboard.main", *where, "--reload_interval", f"{options.reload_interval:g}"]


def _check_port(port: int) -> None:
    import socket

    from cotuning_tune.base.errors import UserError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as problem:
            raise UserError(f"--port {port} cannot be used ({problem}): name another one") from None


def names_of(runs: "list[RunDir]") -> list[str]:
    """A name for each run: its own, and where an earlier one has it, with a number that makes it new."""
    names: list[str] = []
    own = {run.name for run in runs}
    for run in runs:
        name, number = run.name, 1
        while name in names or (number > 1 and name in own):
            number += 1
            name = f"{run.name}-{number}"
        names.append(name)
    return names


def _serve_several(runs: "list[RunDir]", options: argparse.Namespace) -> int:
    """TensorBoard on a folder that has the event files of each run under its name, until it ends.

    Those of a folder are links, those of an object store copies, brought up to date now and then.
    """
    import tempfile

    from cotuning_tune.base.files import is_local
    from cotuning_tune.tensorboard.dashboard import PARTS, merged, read_dashboard, write_dashboard

    with tempfile.TemporaryDirectory(prefix="cotuning_tune-") as folder:
        shown, sources = Path(folder) / "shown", list[Path]()
        for run, name in zip(runs, names_of(runs), strict=True):
            source = run.tensorboard if is_local(run.path) else Path(folder) / "copies" / name
            sources.append(source)
            (shown / name).mkdir(parents=True)
            for part in PARTS:
                (shown / name / part).symlink_to(source / part)
            print(f"{name}   {run.path}", flush=True)
        _update(runs, sources)
        if dashboards := [found for source in sources if (found := read_dashboard(source))]:
            write_dashboard(shown, *merged(dashboards))
        return _serve(_command(shown, options), runs, sources)


def _update(runs: "list[RunDir]", sources: list[Path]) -> None:
    """Bring the copies of object stores up to date."""
    from cotuning_tune.base.files import fetch_folder, is_local

    for run, source in zip(runs, sources, strict=True):
        if not is_local(run.path):
            fetch_folder(run.tensorboard, source)


def _serve(command: list[str], runs: "list[RunDir]", sources: list[Path]) -> int:
    import subprocess

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with subprocess.Popen(command) as board:
        try:
            while True:
                try:
                    return board.wait(COPY_EVERY_S)
                except subprocess.TimeoutExpired:
                    _update(runs, sources)
        except KeyboardInterrupt:
            return 0
        finally:
            board.terminate()
