"""The command ``launch``: start a run on a cluster, watch it, stop it, continue it."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cotuning_tune.base.secrets import Secret
from cotuning_tune.cli._options import EXPERIMENT, Commands, add_concurrent, parse_values
from cotuning_tune.cli._private import storage_url

if TYPE_CHECKING:
    from cotuning_tune.launch import Request
    from cotuning_tune.launch.record import Launch
    from cotuning_tune.runs.summary import Content


def add(commands: Commands) -> None:
    """The parsers of ``launch`` and of what follows it."""
    from cotuning_tune.launch.backends import backend_help, backend_names

    text = "start runs on clusters, and list, watch, stop and resume them"
    verbs = commands.add_parser("launch", help=text, description=text).add_subparsers(
        dest="verb", metavar="BACKEND|VERB", required=True
    )
    for name in backend_names():
        text = backend_help(name)
        parser = verbs.add_parser(name, help=text, description=text)
        parser.add_argument("experiment", metavar="EXPERIMENT", nargs="?", help=EXPERIMENT)
        parser.add_argument("--storage", help="folder that all nodes see, or s3://BUCKET/PREFIX")
        parser.add_argument("--name", help="name of the run (default: the file's name)")
        parser.add_argument(
            "--optuna-storage", type=storage_url, metavar="URL", help="database of the studies; needed with s3://"
        )
        parser.add_argument("--profile", metavar="FILE", help=f"what the site needs (see launch/profiles/{name}.toml)")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the profile")
        parser.add_argument("--on-end", action="store_true", help="run the experiment's on_end command at each end")
        add_concurrent(parser)
        parser.add_argument("--dry-run", action="store_true", help="show files and commands, start nothing")
        parser.add_argument("--show-profile", action="store_true", help="show every key with its default")
        parser.set_defaults(call=_launch, backend=name)
    for name, text, call in (
        ("status", "where a launch stands", _status),
        ("logs", "what its driver says", _logs),
        ("stop", "end it cleanly", _stop),
        ("resume", "continue an ended launch", _resume),
    ):
        parser = verbs.add_parser(name, help=text, description=text)
        parser.add_argument("name", metavar="NAME", nargs="?", help="of the launch (default: the newest)")
        if name == "logs":
            parser.add_argument("-f", "--follow", action="store_true", help="follow until it has ended")
            parser.set_defaults(for_reader=True)
        parser.set_defaults(call=call)
    verbs.add_parser("list", help="every launch", description="every launch").set_defaults(call=_list)


def _request(options: argparse.Namespace) -> "Request":
    from cotuning_tune.base.errors import UserError
    from cotuning_tune.base.files import is_local, place
    from cotuning_tune.base.names import check_name
    from cotuning_tune.base.shipped import located
    from cotuning_tune.launch import Request, backend
    from cotuning_tune.launch.profile import read_profile
    from cotuning_tune.launch.record import root

    if not options.experiment:
        raise UserError(f"launch {options.backend} needs an EXPERIMENT: {EXPERIMENT}")
    if not options.storage:
        raise UserError("launch needs --storage: a folder that all nodes see, or s3://BUCKET/PREFIX")
    given = parse_values(options.set, "nodes=2")
    profile = read_profile(backend(options.backend).Profile, options.profile, given, options.backend)
    path, name = located(options.experiment)[0], options.name
    if not path.is_file():
        raise UserError(f"{path} cannot be read: there is no such file")
    name = _name_in(path) if name is None else check_name(name, "--name")
    storage = place(options.storage) if is_local(place(options.storage)) else options.storage
    studies = options.optuna_storage or Secret()
    bound = options.concurrent
    return Request(path, name, str(storage), studies, profile, root() / name, options.on_end, concurrent=bound)


def _name_in(path: Path) -> str:
    """The run's name, as the command ``run`` would find it; the file is not checked further here."""
    from cotuning_tune.base.errors import UserError
    from cotuning_tune.base.toml_text import read_text, tables_of

    text = read_text(path)
    try:
        table = tables_of(text).get("experiment", {})
    except UserError as problem:
        raise UserError(f"{path}: {problem}") from None
    return str(table.get("name", path.stem) if isinstance(table, dict) else path.stem)


def _launch(options: argparse.Namespace) -> int:
    from cotuning_tune.launch import backend, dry_run, launch
    from cotuning_tune.launch.profile import profile_text

    if options.show_profile:
        print(profile_text(backend(options.backend).Profile), end="")
        return 0
    request = _request(options)
    if options.dry_run:
        print(dry_run(options.backend, request))
        return 0
    made = launch(options.backend, request)
    print(f"launched '{made.name}' by {made.backend}; the run is {made.run}")
    _say_next(made)
    return 0


def _say_next(made: "Launch") -> None:
    from cotuning_tune.launch import backend

    for line in backend(made.backend).notes(made):
        print(line)
    for verb in ("status", "logs -f", "stop", "resume"):
        print(f"  cotuning-tune launch {verb} {made.name}")


def _status(options: argparse.Namespace) -> int:
    from cotuning_tune.launch import find_launch, state_of
    from cotuning_tune.launch.verbs import summary_of

    found = find_launch(options.name)
    print(f"{found.name}: {state_of(found)} ({found.backend}, started {_ago(found.started)}, attempt {found.attempt})")
    print(f"run      {found.run}")
    print(f"folder   {found.folder}")
    if summary := summary_of(found):
        _say_progress(summary)
    return 0


def _say_progress(summary: "Content") -> None:
    """What the run's summary tells."""
    from cotuning_tune.runs.events import best_of

    trials = f"{summary['done']}/{summary['budget']} trials, {summary['running']} running, {summary['failed']} failed"
    print(f"search   {trials}, {best_of(summary['best'], summary.get('metrics', {}))}")
    print(f"retrain  {summary['retrained']}/{summary['retrain_budget']} seeds")
    print(f"took     {summary['trial_hours']:.3g} trial-hours, {summary['restarts']} restart(s)")
    print(f"phase    {summary['phase']}, on {summary['host']}, reported {_ago(summary['updated'])}")
    if summary["reason"]:
        print(f"reason   {summary['reason']}")


def _ago(when: float) -> str:
    minutes = (time.time() - when) / 60
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"


def _logs(options: argparse.Namespace) -> int:
    from cotuning_tune.base.errors import UserError
    from cotuning_tune.launch import backend, find_launch, settled

    found = settled(find_launch(options.name))
    if found.starting:
        raise UserError(f"'{found.name}' has not been started: cotuning-tune launch resume {found.name}")
    for piece in backend(found.backend).log(found, options.follow):
        print(piece, end="", flush=True)
    return 0


def _stop(options: argparse.Namespace) -> int:
    from cotuning_tune.launch import find_launch, stop

    found = find_launch(options.name)
    print(f"{found.name}: {stop(found)}")
    return 0


def _resume(options: argparse.Namespace) -> int:
    from cotuning_tune.launch import find_launch, relaunch

    made = relaunch(find_launch(options.name))
    print(f"launched '{made.name}' again by {made.backend} (attempt {made.attempt})")
    _say_next(made)
    return 0


def _list(_: argparse.Namespace) -> int:
    from cotuning_tune.base.tables import Table
    from cotuning_tune.launch import all_launches, state_of

    rows = [[item.name, item.backend, state_of(item), _ago(item.started), item.run] for item in all_launches()]
    print(Table("launches", "Launches", ["name", "backend", "state", "started", "run"], rows).markdown())
    return 0
