"""No value of a file runs in a shell: each is refused, or quoted in all that a backend would execute."""

import importlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import Request, backend
from cotuning_tune.launch.backend import Plan
from cotuning_tune.launch.backends.local import LocalProfile

HOSTILE = [
    "$(touch hit)",
    "`touch hit`",
    "; touch hit #",
    "x\ntouch hit\n#",
    "' ; touch hit #",
    '" ; touch hit #',
    "a && touch hit | touch hit",
]
SHELL = ("setup",)  # lines of shell, by their meaning
BEFORE = {"env": "X=", "address": "http://", "node_selector": "k=", "python": "~/", "working_dir": "/", "mount": "/"}
TOOLS = ("awk", "bash", "cat", "date", "head", "mkdir", "od", "rm", "seq", "sh", "sleep", "tail", "tr")
STUBS = {
    "touch": ': >"$HIT"',
    "hostname": "echo 127.0.0.1",
    **dict.fromkeys(["curl", "sudo", "shutdown", "srun", "squeue", "scancel", "scontrol", "ip", "setsid"], ":"),
}
BACKENDS = ["ssh", "slurm", "submit", "k8s", "cloud", "cloud_gcp", "local"]


class Shell:
    """A shell that finds few commands, in a folder of its own; ``hit``: whether a planted command has run."""

    def __init__(self, folder: Path, port: int) -> None:
        self.home, self.hit, tools = folder / "home", folder / "hit", folder / "tools"
        for path in (self.home / "cotuning-tune", self.home / "launch", tools):
            path.mkdir(parents=True)
        (self.home / "cotuning-tune" / "stopping").touch()  # nothing is taken down
        for name in TOOLS:
            (tools / name).symlink_to(str(shutil.which(name)))
        for name, text in STUBS.items():
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
        job = {"SLURM_JOB_ID": str((port - 20000) // 10), "SLURM_JOB_NUM_NODES": "1", "SLURMD_NODENAME": "n0"}
        ray = {"RAY_TMPDIR": str(folder / "ray"), "RAY_AUTH_TOKEN_PATH": str(tools / "touch"), "HEAD_PORT": str(port)}
        more = {"HIT": str(self.hit), "SLURM_JOB_NODELIST": "n0", "RAY_ADDRESS": "here"}
        self.env = {"PATH": str(tools), "HOME": str(self.home), **job, **ray, **more}

    def run(self, *words: str) -> None:
        """Run it, whatever comes of it."""
        done = subprocess.run(
            words, env=self.env, cwd=self.home, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )
        assert not self.hit.exists(), (words, done.stdout, done.stderr)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Something answers where the job of Slurm looks for Ray's head."""
    for port in range(20000, 30000, 10):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            yield Shell(tmp_path, port)
            return


def request_of(name: str, folder: Path, experiment: Path) -> Request:
    """The request of a golden case, in this folder."""
    if name == "local":
        return Request(experiment, "tiny", "/shared/runs", "", LocalProfile(), folder)
    request: Request = importlib.import_module(f"tests.launch.cases.{name}").REQUEST
    profile = request.profile
    if name == "submit":
        profile = replace(profile, working_dir="")
    if name.startswith("cloud"):
        (folder / "keys").touch()
        wheel = folder / "cotuning_tune-0.1.0-py3-none-any.whl"
        wheel.touch()
        package = str(wheel) if name == "cloud_gcp" else profile.package
        profile = replace(profile, package=package, environment=str(folder / "keys"), down=False)
    return replace(request, experiment=experiment, profile=profile, folder=folder)


def planned(name: str, request: Request) -> Plan | None:
    """What the backend would execute; None where it refuses."""
    kind = backend(name.partition("_")[0])
    try:
        kind.check(request)
        return kind.plan(request)
    except UserError:
        return None


def planted(name: str, request: Request, text: str) -> Request:
    """The request with the text in every key of its profile in which the backend takes it."""
    for item in fields(request.profile):
        before = BEFORE.get(item.name, "")
        value: Any = before + text if item.type is str else (before + text,) if "tuple" in str(item.type) else None
        if value is None or item.name in SHELL:
            continue
        try:
            changed = replace(request, profile=replace(request.profile, **{item.name: value}))
        except UserError:
            continue
        if planned(name, changed):
            request = changed
    return request


def execute(name: str, plan: Plan, shell: Shell) -> None:
    """Run all that shells would be given somewhere."""
    for file, text in plan.files.items():
        (shell.home / "launch" / file).write_text(text)
    here = str(shell.home / "launch")
    match name:
        case "ssh":
            shell.run("sh", f"{here}/settings.sh")
            for command in plan.commands:
                shell.run("sh", "-c", command[-1])
        case "slurm":
            shell.run("bash", f"{here}/job.sbatch")
            shell.run("bash", f"{here}/node.sh", "head")
            shell.run("bash", f"{here}/node.sh", "address")
        case "submit":
            shell.run("sh", "-c", json.loads(plan.files["job.json"])["entrypoint"])
        case "k8s":
            yaml = pytest.importorskip("yaml")
            shell.run("sh", "-c", yaml.safe_load(plan.files["rayjob.yaml"])["spec"]["entrypoint"])
        case "cloud" | "cloud_gcp":
            yaml = pytest.importorskip("yaml")
            cluster = yaml.safe_load(plan.files["cluster.yaml"])
            for line in [*cluster["setup_commands"], *cluster["head_setup_commands"]]:
                shell.run("sh", "-c", line)
            shell.run("sh", f"{here}/driver.sh", "work")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", BACKENDS)
def test_no_value_of_a_profile_runs(name: str, text: str, shell: Shell) -> None:
    """Planted in every key of the profile, a command does not run."""
    experiment = shell.home / "tiny.toml"
    experiment.write_text(f"[experiment]\non_end = {json.dumps(text)}\nweights = {json.dumps(text)}\n")
    request = planted(name, request_of(name, shell.home / "launch", experiment), text)
    plan = planned(name, request)
    assert plan is not None
    execute(name, plan, shell)
    if name == "local":
        assert all(isinstance(word, str) for word in plan.commands[0])
        assert (text in "".join(plan.commands[0])) == (request.profile.python != "")


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[3], HOSTILE[4]])
@pytest.mark.parametrize("name", BACKENDS)
def test_no_path_runs(name: str, text: str, shell: Shell) -> None:
    """Nor does it in the names of the experiment's file and of the storage; as a run's name it is refused."""
    experiment = shell.home / f"{text}.toml"
    experiment.write_text("[experiment]\n")
    request = request_of(name, shell.home / "launch", experiment)
    with pytest.raises(UserError, match="the run's name"):
        replace(request, name=text)
    for changed in (request, replace(request, storage=f"{request.storage}/{text}")):
        if plan := planned(name, changed):
            execute(name, plan, shell)


def test_the_shell_of_these_tests(shell: Shell) -> None:
    """An unquoted text would be found out."""
    for text in HOSTILE[:4]:
        with pytest.raises(AssertionError):
            shell.run("sh", "-c", f"echo {text}")
        shell.hit.unlink()


@pytest.mark.parametrize("key", ["hosts", "addresses"])
@pytest.mark.parametrize("text", ["$(touch hit)", "`id`", "a;b", "-oProxyCommand=x", "a\nb", ""])
def test_a_host(key: str, text: str) -> None:
    """A host's name goes into ssh's own commands: it is refused with anything that a shell reads."""
    request = importlib.import_module("tests.launch.cases.ssh").REQUEST
    changed = replace(request, profile=replace(request.profile, **{"hosts": ("a",), key: (text,)}))
    with pytest.raises(UserError, match=f"ssh.{key}: .* is not a host"):
        backend("ssh").check(changed)
