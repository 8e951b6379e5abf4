"""The commands with ``--server URL``: the same words, carried out by a service."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from cotuning_tune.base.endings import FAILED, UNFINISHED
from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import Commands, add_changes, add_json, parse_values
from cotuning_tune.cli._output import print_json

if TYPE_CHECKING:
    from cotuning_tune.service.client import Client, Run

VERBS = ("run", "check", "status", "list", "extend", "resume", "stop", "cancel", "report", "log", "compare")
RUN = "id of a run, or the name of one of yours"
CODES = {"done": 0, "failed": FAILED}


def add(commands: Commands) -> None:
    """The parsers of these commands."""

    def parser(name: str, text: str, call: Callable[["Client", argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(call=call)
        if name not in ("run", "check", "list"):
            many = {"nargs": "+"} if name == "compare" else {}
            made.add_argument("run", metavar="RUN", help=RUN, **many)  # type: ignore[arg-type]
        return made

    for name, text, call in (
        ("run", "submit a run, and watch it until it has ended (Ctrl-C leaves it running)", _run),
        ("check", "look at an experiment: mistakes, and what it would take", _check),
    ):
        started = parser(name, text, call)
        started.add_argument("experiment", metavar="EXPERIMENT", help="a file of search_spaces/, or your own")
        started.add_argument("--name", default="", help="name of the run (default: the file's name)")
        add_changes(started)
        if name == "run":
            _add_run(started)
    add_json(parser("status", "show the progress of a run", _status))
    listed = parser("list", "list runs, the newest first", _list)
    for key in ("owner", "state", "label", "text"):
        listed.add_argument(f"--{key}", default="", help=f"only those with this {key}")
    add_json(listed)
    extend = parser("extend", "give every study of a run more trials", _extend)
    extend.add_argument("--trials", type=int, required=True, metavar="N", help="how many trials each study has then")
    for resumed in (extend, parser("resume", "continue a run that is paused, failed or cancelled", _resume)):
        resumed.add_argument("--detach", action="store_true", help="do not watch it")
    parser("stop", "end a run's driver cleanly; resume continues it", _stop)
    parser("cancel", "end a run for good; its folder stays", _cancel)
    parser("report", "show the report of a run", _report)
    log = parser("log", "show what a run's drivers have said", _log)
    log.add_argument("-f", "--follow", action="store_true", help="follow until it has ended")
    add_json(parser("compare", "show several runs in one table, and how they differ", _compare))


def _add_run(started: argparse.ArgumentParser) -> None:
    started.add_argument("--backend", default="", help="where it runs (default: the service's first)")
    started.add_argument("--least", type=int, default=1, metavar="N", help="do not begin with fewer trials at a time")
    started.add_argument("--most", type=int, default=0, metavar="N", help="trials at a time (default: as many as fit)")
    started.add_argument(
        "--priority", type=int, default=0, choices=(-1, 0, 1), help="low, normal, high (by permission)"
    )
    started.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    started.add_argument("--private", action="store_true", help="only you and operators see it")
    started.add_argument("--detach", action="store_true", help="submit it, and do not watch it")


def make_parser(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The parser of the commands that a service carries out."""
    parser = kind(prog="cotuning-tune", description="What a service carries out (--server URL).")
    parser.add_argument("--server", metavar="URL", help="the service (default: COTUNING_TUNE_SERVER)")
    add(parser.add_subparsers(dest="command", metavar="COMMAND", required=True))
    return parser


def asked(words: list[str], environment: str) -> tuple[str, list[str]]:
    """The service that a command line means ('': none), and the command without it. Raises UserError.

    ``environment``: of COTUNING_TUNE_SERVER, which commands that work on this machine alone pass by.
    """
    url, rest = "", list(words)
    if words and words[0].partition("=")[0] == "--server":
        url, rest = (
            (words[0].partition("=")[2], words[1:]) if "=" in words[0] else (words[1] if words[1:] else "", words[2:])
        )
        if not url:
            raise UserError("--server: the address of a service is needed, as http://127.0.0.1:8765")
    if not url:
        local = not rest or rest[0] not in VERBS or (rest[0] == "list" and rest[1:] and rest[1][0] != "-")
        return "" if local else environment, rest
    if rest and rest[0] not in VERBS and rest[0][:1] != "-":
        raise UserError(f"{rest[0]} works on this machine alone: a service knows {', '.join(VERBS)}")
    return url, rest


def carry_out(url: str, options: argparse.Namespace) -> int:
    """Do it; the exit code."""
    from cotuning_tune.service.client import Client

    with Client(url) as client:
        try:
            code: int = options.call(client, options)
        except KeyboardInterrupt:
            print("\ncotuning-tune: left; what the service works on continues", file=sys.stderr)
            return UNFINISHED
        return code


def _text(options: argparse.Namespace) -> tuple[str, str]:
    """An experiment's text with what ``--set`` says, and the name of its run."""
    from pathlib import Path

    from cotuning_tune.base.toml_text import dotted, read_text, set_key

    path = Path(options.experiment)
    text = read_text(path)
    for key, value in parse_values(options.set, "train.epochs=3").items():
        text = set_key(text, dotted(key), value)
    return text if "\n" in text else f"{text}\n", options.name or path.stem


def _run(client: "Client", options: argparse.Namespace) -> int:
    text, name = _text(options)
    pairs = [label.partition("=") for label in options.label]
    given = {key: getattr(options, key) for key in ("backend", "least", "most", "priority", "private")}
    run = client.submit(text, name, labels={key: value for key, _, value in pairs}, **given)
    print(f"{run['name']} is submitted as {run['id']}", flush=True)
    return _watch(client, run["id"], options)


def _watch(client: "Client", identity: str, options: argparse.Namespace) -> int:
    """Say what becomes of a run until it rests; the exit code."""
    if options.detach:
        return 0
    said = ""
    for event in client.watch(identity):
        line = _line(event)
        if line and line != said:
            print(line, flush=True)
            said = line
    run = client.run(identity)
    if run["state"] == "done":
        print(client.table(identity).markdown())
    else:
        print(f"cotuning-tune: {run['name']} is {run['state']}{_because(run)}", file=sys.stderr)
    return CODES.get(run["state"], UNFINISHED)


def _line(event: "Run") -> str:
    content = event["content"]
    if event["kind"] == "state":
        return f"{content['state']}{_because(content)}"
    if event["kind"] == "progress":
        return _progress(content["summary"])
    return ""


def _progress(summary: "Run") -> str:
    if not summary.get("budget"):
        return ""
    return f"{summary['done']}/{summary['budget']} trials, {summary.get('running', 0)} running"


def _because(run: "Run") -> str:
    reason = run.get("reason") or run.get("waits")
    return f": {reason}" if reason else ""


def _check(client: "Client", options: argparse.Namespace) -> int:
    text, name = _text(options)
    found = client.check(text, name)
    print(
        f"nothing is wrong; {found['trials']} trials per study, each {found['gpus']:g} GPU or {found['cpus']:g} cores"
    )
    return 0


def _status(client: "Client", options: argparse.Namespace) -> int:
    run = client.find(options.run)
    if options.json:
        print_json({**run, "studies": client.studies(run["id"])})
        return 0
    print(client.table(run["id"], "status").markdown())
    print(f"{run['name']} ({run['id']}) of {run['owner']} on {run['backend']}: {run['state']}{_because(run)}")
    return 0


def _list(client: "Client", options: argparse.Namespace) -> int:
    from cotuning_tune.base.tables import Table

    wanted = {key: getattr(options, key) for key in ("owner", "state", "label", "text") if getattr(options, key)}
    runs = list(client.runs(**wanted))
    if options.json:
        print_json({"runs": runs})
        return 0
    rows = [[run["id"], run["name"], run["owner"], run["state"], _progress(run["summary"]) or "-"] for run in runs]
    print(Table("runs", "Runs", ["id", "name", "owner", "state", "progress"], rows).markdown())
    return 0


def _extend(client: "Client", options: argparse.Namespace) -> int:
    run = client.extend(client.find(options.run)["id"], options.trials)
    print(f"each study of {run['name']} now has a budget of {options.trials} trials")
    return _watch(client, run["id"], options)


def _resume(client: "Client", options: argparse.Namespace) -> int:
    run = client.resume(client.find(options.run)["id"])
    return _watch(client, run["id"], options)


def _stop(client: "Client", options: argparse.Namespace) -> int:
    run = client.pause(client.find(options.run)["id"])
    print(f"{run['name']} is asked to stop; to continue: resume {run['id']}")
    return 0


def _cancel(client: "Client", options: argparse.Namespace) -> int:
    run = client.cancel(client.find(options.run)["id"])
    print(f"{run['name']} is asked to end")
    return 0


def _report(client: "Client", options: argparse.Namespace) -> int:
    print(client.report(client.find(options.run)["id"]).decode("utf-8", "replace"), end="")
    return 0


def _log(client: "Client", options: argparse.Namespace) -> int:
    for piece in client.log(client.find(options.run)["id"], follow=options.follow):
        print(piece, end="", flush=True)
    return 0


def _compare(client: "Client", options: argparse.Namespace) -> int:
    from cotuning_tune.base.tables import Table

    found = client.compare([client.find(run)["id"] for run in options.run])
    if options.json:
        print_json(found)
        return 0
    names = [run["name"] for run in found["runs"]]
    studies = sorted({study["study"] for run in found["runs"] for study in run["studies"]})
    bests = [{study["study"]: study["best_val_score"] for study in run["studies"]} for run in found["runs"]]
    scores = [[name, *("-" if (best := one.get(name)) is None else f"{best:.2f}" for one in bests)] for name in studies]
    settings = [
        [key, *("-" if value is None else str(value) for value in values)] for key, values in found["differing"].items()
    ]
    for title, rows in (("Best validation score", scores), ("Settings that differ", settings)):
        print(f"{title}\n{Table('compare', title, ['', *names], rows).markdown()}\n")
    return 0
