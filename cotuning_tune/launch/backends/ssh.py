"""Bare machines reached by ssh: a Ray cluster for one run, the driver on the first host."""

import json
import re
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.names import check_setting
from cotuning_tune.hyper import hyper
from cotuning_tune.launch.backend import ENDS, Backend, Plan, Request, Unsure
from cotuning_tune.launch.profile import check_absolute, make_profile
from cotuning_tune.launch.record import Launch, write_private
from cotuning_tune.launch.remote import NotReached, Remote, letting_go, on_all, packed
from cotuning_tune.launch.templates import render

HOST = re.compile(r"[\w\[][\w.@%:/\[\]+-]*")  # ssh puts it into commands of its own (ProxyCommand)
SCRIPTS = ("env.sh", "check.sh", "start.sh", "node.sh", "driver.sh", "status.sh", "stop.sh", "logs.sh")
# What an earlier attempt has left running is ended before its files are replaced; a living driver is not.
PREPARE = """
umask 077
mkdir -p "$0" && chmod 700 "$0" && cd "$0" || exit
if [ -e stop.sh ]; then
    case $(sh ./status.sh | tail -n 1) in running*)
        echo "this launch runs there already, from another machine or by another record of it" >&2
        exit 1 ;;
    esac
    sh ./stop.sh node
fi
rm -f driver.* && tar -xof -
"""


@dataclass(frozen=True)
class SshProfile:
    """``hosts`` or ``hosts_file`` must be given; all hosts are taken to be alike."""

    hosts: tuple[str, ...] = hyper((), doc="as ssh knows them, the head first: ['gpu1', 'me@gpu2']")
    hosts_file: str = hyper("", doc="or a file with a host on each line")
    ssh_options: tuple[str, ...] = hyper((), doc="further options of ssh: ['-i', '~/.ssh/cluster']")
    python: str = hyper("python3", doc="interpreter on the hosts that has cotuning_tune: ~/venv/bin/python")
    setup: tuple[str, ...] = hyper((), doc="lines of shell before it: ['module load cuda']")
    env: tuple[str, ...] = hyper((), doc="environment of all processes: ['NAME=VALUE']")
    cpus: int = hyper(0, doc="cores of each host; 0: all")
    gpus: int = hyper(-1, doc="GPUs of each host; -1: all")
    port: int = hyper(6385, doc="of the head, reached by the other hosts")
    dashboard_port: int = hyper(8265, doc="on 127.0.0.1 of the head")
    addresses: tuple[str, ...] = hyper((), doc="to bind to, in the order of the hosts; []: where ssh came in")
    folder: str = hyper(".cotuning_tune/on_hosts", doc="on each host, below the home folder or absolute")
    stop_s: int = hyper(60, doc="seconds that the driver may take to end cleanly")
    templates: str = hyper("", doc="folder with your own ssh/*.sh in place of launch/ssh/*.sh")


def _hosts(profile: SshProfile) -> tuple[str, ...]:
    if not profile.hosts_file:
        return profile.hosts
    try:
        lines = Path(profile.hosts_file).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise UserError(f"ssh.hosts_file = {profile.hosts_file} cannot be read: {problem.strerror}") from None
    return tuple(host for line in lines if (host := line.partition("#")[0].strip()))


def _options(profile: SshProfile) -> tuple[str, ...]:
    return tuple(str(Path(word).expanduser()) if word.startswith("~") else word for word in profile.ssh_options)


def _remotes(profile: SshProfile, hosts: tuple[str, ...]) -> list[Remote]:
    return [Remote(host, _options(profile)) for host in hosts]


def _of(launch: Launch) -> list[Remote]:
    options = tuple(launch.facts["options"])
    return [Remote(host, options) for host in launch.facts["hosts"]]


def _quoted(path: str) -> str:
    """A path for the host's shell: ``~/`` is the home folder there."""
    return '"$HOME"/' + shlex.quote(path[2:]) if path.startswith("~/") else shlex.quote(path)


def _export(setting: str) -> str:
    name, value = check_setting(setting, f"ssh.env: '{setting}'")
    return f"export {name}={shlex.quote(value)}"


class SshBackend(Backend):
    """Starts Ray on each host, with a token of this launch, and the driver on the first one."""

    Profile = SshProfile

    def check(self, request: Request) -> None:
        profile = request.profile
        check_absolute(profile, "ssh", "hosts_file", "templates")
        hosts = _hosts(profile)
        if not hosts:
            raise UserError("ssh needs hosts: hosts = ['gpu1', 'gpu2'] in a profile, or hosts_file (--profile FILE)")
        for key, named in (("hosts", hosts), ("addresses", profile.addresses)):
            if wrong := [host for host in named if not HOST.fullmatch(host)]:
                raise UserError(f"ssh.{key}: '{wrong[0]}' is not a host", key)
        if profile.folder.startswith("-") or not profile.folder.isprintable():
            raise UserError(f"ssh.folder = {profile.folder!r}: no '-' first, no line breaks", "folder")
        if len(set(hosts)) < len(hosts):
            raise UserError("ssh.hosts: a host is named twice", "hosts")
        if profile.addresses and len(profile.addresses) != len(hosts):
            raise UserError(f"ssh.addresses: {len(profile.addresses)} for {len(hosts)} hosts", "addresses")

    def plan(self, request: Request) -> Plan:
        profile, hosts = request.profile, _hosts(request.profile)
        cpus = f"--num-cpus={profile.cpus}" if profile.cpus else ""
        gpus = f"--num-gpus={profile.gpus}" if profile.gpus >= 0 else ""
        values = {
            "setup": "\n".join(profile.setup),
            "env": "\n".join(_export(setting) for setting in profile.env),
            "python": _quoted(profile.python),
            "port": profile.port,
            "dashboard_port": profile.dashboard_port,
            "resources": " ".join(filter(None, (cpus, gpus))),
            "experiment": shlex.quote(request.experiment.name),
            "storage": shlex.quote(request.storage),
            "run": shlex.quote(request.name),
            "attempt": request.attempt_name,
            "nodes": len(hosts),
            "on_end": "--on-end" if request.on_end else "",
        }
        settings = render("ssh/settings.sh", values, profile.templates)
        lines = ["head ADDRESS", *["worker ADDRESS HEAD"] * (len(hosts) - 1)]
        remotes = _remotes(profile, hosts)
        commands = [
            remote.command(_script(_folder(profile, request.name, number), f"start.sh {line}"))
            for number, (remote, line) in enumerate(zip(remotes, lines, strict=True))
        ]
        commands.append(remotes[0].command(_script(_folder(profile, request.name, 0), "start.sh driver ADDRESS")))
        return Plan({"settings.sh": settings}, commands)

    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        remotes, facts = _remotes(request.profile, _hosts(request.profile)), _facts(request.profile, request.name)
        folders = dict(zip(remotes, facts["folders"], strict=True))
        token = secrets.token_hex(32)
        scripts = {name: render(f"ssh/{name}", {}, request.profile.templates) for name in SCRIPTS}
        files = {**plan.files, **scripts, "token": token}
        first = {f"experiment/{request.experiment.name}": request.experiment.read_text(encoding="utf-8")}
        if request.optuna_storage:
            first["optuna_storage.url"] = request.optuna_storage.reveal()
        with letting_go(remotes):
            _prepare(remotes[0], folders[remotes[0]], {**files, **first})  # refused where a driver of it lives
            try:
                on_all(remotes[1:], lambda remote: _prepare(remote, folders[remote], files))
                found = on_all(remotes, lambda remote: json.loads(_last(_run(remote, folders[remote], "check.sh"))))
                facts["address"] = _start_nodes(remotes, folders, found, request.profile.addresses)
                write_private(request.folder / "token", token)
                _start_driver(remotes[0], folders[remotes[0]], facts["address"])
            except Unsure:
                raise
            except BaseException:
                _end_nodes(remotes, folders)
                raise
        return facts

    def find(self, launch: Launch) -> dict[str, Any] | None:
        meant = _meant(launch)
        head, claim = _of(meant)[0], f"{meant.facts['folders'][0]}/attempts/{launch.attempt_name}"
        with letting_go([head]):
            address = _last(head.run(f"cat {shlex.quote(claim)} 2>/dev/null || echo none", seconds=30))
        return None if address == "none" else {**meant.facts, "address": address}

    def clear(self, launch: Launch) -> str:
        meant = _meant(launch)
        with letting_go(_of(meant)):
            if missed := _end_nodes(_of(meant), _folders_of(meant)):
                raise UserError(f"{', '.join(missed)}: not reached; all others have stopped")
        return "no driver runs; its nodes are stopped"

    def notes(self, launch: Launch) -> list[str]:
        head, port = _of(launch)[0], launch.profile["dashboard_port"]
        tunnel = ["ssh", *head.options, "-N", "-L", f"{port}:127.0.0.1:{port}", head.host]
        return [
            f"dashboard: {shlex.join(tunnel)}",
            f"           then http://127.0.0.1:{port}, with the token in {launch.folder / 'token'}",
        ]

    def state(self, launch: Launch) -> str:
        remotes, folders = _of(launch), _folders_of(launch)

        def ask(remote: Remote) -> str:
            try:
                return _last(_run(remote, folders[remote], "status.sh", 30))
            except NotReached as problem:
                return f"unreachable {problem}"

        with letting_go(remotes):
            said = on_all(remotes, ask)
        driver, _, rest = said[0].partition(" ")
        if driver == "unreachable":
            return f"unknown ({rest})"
        if driver == "running":
            return f"running, {sum(one.endswith(' alive') for one in said)} of {len(said)} nodes"
        return ENDS.get(driver) or ("killed" if driver in ("killed", "none") else f"failed (exit code {driver})")

    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        head = _of(launch)[0]
        yield from head.stream(_script(launch.facts["folders"][0], "logs.sh follow" if follow else "logs.sh"))

    def stop(self, launch: Launch) -> str:
        remotes, folders, seconds = _of(launch), _folders_of(launch), launch.profile["stop_s"]
        with letting_go(remotes):
            try:
                how = _last(_run(remotes[0], folders[remotes[0]], f"stop.sh driver {seconds}", seconds + 60))
            except NotReached as problem:
                how = str(problem)
            missed = _end_nodes(remotes, folders)
        (launch.folder / "token").unlink(missing_ok=True)
        if missed:
            names = ", ".join(missed)
            raise UserError(
                f"{names}: not reached; all others have stopped. A host ends its work by itself once it has lost the"
                " head; where the head is not reached, stop again"
            )
        if how == "killed":
            return f"the driver did not end within {seconds} s and was killed; nothing is lost"
        return "stopped cleanly; nothing is lost" if how == "ended" else "the driver had ended; its nodes are stopped"


def _folder(profile: SshProfile, run: str, number: int) -> str:
    """The launch's folder on a host: of its own where the hosts share their home folder."""
    return f"{profile.folder.removeprefix('~/')}/{run}-{number}"


def _facts(profile: SshProfile, run: str) -> dict[str, Any]:
    """Where a launch with this profile runs."""
    hosts = _hosts(profile)
    folders = [_folder(profile, run, number) for number in range(len(hosts))]
    return {"hosts": list(hosts), "options": list(_options(profile)), "folders": folders}


def _meant(launch: Launch) -> Launch:
    """The launch with the hosts of its profile, whatever has been started there."""
    return replace(launch, facts=_facts(make_profile(SshProfile, launch.profile, launch.backend), launch.name))


def _start_driver(head: Remote, folder: str, address: str) -> None:
    """Raises Unsure where the head's answer is lost."""
    try:
        _run(head, folder, f"start.sh driver {shlex.quote(address)}")
    except NotReached as problem:
        raise Unsure(f"{problem}; whether the driver has been started is not known: launch status asks") from None


def _script(folder: str, line: str) -> str:
    return f"sh {shlex.quote(folder)}/{line}"


def _run(remote: Remote, folder: str, line: str, seconds: float = 180) -> str:
    return remote.run(_script(folder, line), seconds=seconds)


def _last(said: str) -> str:
    """The last line: a host's shell may greet."""
    return said.splitlines()[-1] if said else ""


def _folders_of(launch: Launch) -> dict[Remote, str]:
    return dict(zip(_of(launch), launch.facts["folders"], strict=True))


def _prepare(remote: Remote, folder: str, files: dict[str, str]) -> None:
    remote.run(f"sh -c {shlex.quote(PREPARE)} {shlex.quote(folder)}", packed(files))


def _start_nodes(
    remotes: list[Remote], folders: dict[Remote, str], found: list[dict[str, Any]], given: tuple[str, ...]
) -> str:
    """Start Ray on the head, then on the others at the same time; the head's address. Raises UserError."""
    for remote, seen in zip(remotes, found, strict=True):
        for name, version in seen["versions"].items():
            if version != (mine := found[0]["versions"][name]):
                raise UserError(
                    f"{remote.host} has {name} {version}, {remotes[0].host} has {mine}: they must be the same"
                )
    addresses = dict(zip(remotes, given or [seen["address"] for seen in found], strict=True))
    head = shlex.quote(addresses[remotes[0]])
    _run(remotes[0], folders[remotes[0]], f"start.sh head {head}")
    on_all(remotes[1:], lambda one: _run(one, folders[one], f"start.sh worker {shlex.quote(addresses[one])} {head}"))
    return addresses[remotes[0]]


def _end_nodes(remotes: list[Remote], folders: dict[Remote, str]) -> list[str]:
    """End what this launch runs on each host; the hosts that were not reached."""

    def end(remote: Remote) -> str:
        try:
            _run(remote, folders[remote], "stop.sh node")
        except NotReached:
            return remote.host
        except UserError:  # nothing has been put there
            pass
        return ""

    return [host for host in on_all(remotes, end) if host]
