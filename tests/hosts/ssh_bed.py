"""Hosts of the bed with a real sshd each, and a workstation that may log in to them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cotuning_tune.base.toml_text import format_value
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import started_at
from tests.hosts.bed import Host, bed

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = {trials}
selection = "max"
seeds = [0]
[task]
size = 16
resize = 16
[data.synthetic]
images = 60
[resources]
state_every = 0
[train]
epochs = 6
batch_size = 8
"""
SSHD = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
SSH = """
Host n*
  User root
  IdentityFile {folder}/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


@dataclass(frozen=True)
class Site:
    """A workstation and the hosts that it reaches by ssh; ``folder`` is seen by all, ``more`` is set on all."""

    workstation: Host
    hosts: list[Host]
    folder: Path
    short: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What a process of the package needs here."""
        found = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        mine = {"PYTHONPATH": found, "OMP_NUM_THREADS": "1", "COTUNING_TUNE_CACHE": str(self.folder / "cache")}
        launches = str(self.folder / "launches")
        return {**mine, "COTUNING_TUNE_LAUNCHES": launches, "TMPDIR": str(self.short), **self.more}

    def call(self, *words: object, code: int = 0, timeout: float = 400) -> list[str]:
        """The lines that the command line gives on the workstation: its output, or its errors where it fails."""
        command = [sys.executable, "-m", "cotuning_tune.cli", *words]
        done = self.workstation.run(command, env=self.env, check=False, timeout=timeout)
        assert done.returncode == code, done.stdout + done.stderr
        return (done.stderr if code else done.stdout).splitlines()

    def profile(self, **changed: object) -> Path:
        """A profile of these hosts."""
        env = [
            f"{name}={value}" for name, value in self.env.items() if name not in ("TMPDIR", "COTUNING_TUNE_LAUNCHES")
        ]
        values = {
            "hosts": [host.name for host in self.hosts],
            "ssh_options": ["-F", str(self.folder / "ssh_config")],
            "python": sys.executable,
            "env": env,
            "cpus": 1,
            "folder": str(self.folder / "on_hosts"),
            **changed,
        }
        path = self.folder / "site.toml"
        path.write_text("".join(f"{key} = {format_value(value)}\n" for key, value in values.items()))
        return path

    @property
    def experiment(self) -> Path:
        """The experiment's file."""
        return self.folder / "tiny.toml"

    def write_experiment(self, trials: int = 8) -> None:
        """Write it."""
        self.experiment.write_text(EXPERIMENT.format(trials=trials))

    def launch(self, trials: int = 8) -> None:
        """Start a run called ``tiny`` in the folder ``runs``."""
        self.write_experiment(trials)
        self.call("launch", "ssh", self.experiment, "--storage", self.folder / "runs", "--profile", self.profile())

    @property
    def run(self) -> RunDir:
        """The run."""
        return RunDir(self.folder / "runs" / "tiny")

    def ended_trials(self) -> int:
        """How many trials have ended."""
        return len(list(self.run.path.glob("studies/*/trials/*/result.json")))

    def state(self) -> str:
        """What ``launch status`` says of it."""
        return self.call("launch", "status", "tiny")[0].removeprefix("tiny: ").rpartition(" (ssh")[0]

    def left(self) -> list[str]:
        """What runs on the hosts besides sshd."""
        found = [one for host in self.hosts for one in host.processes().items()]
        return [line for pid, line in found if "sshd" not in line and started_at(pid)]  # what is dead has not started

    def log(self) -> str:
        """What the drivers have said so far."""
        return (self.folder / "on_hosts/tiny-0/log").read_text()

    def check_complete(self, trials: int = 8) -> None:
        """Exactly the asked trials are there, each once, all finished, and the retrained model."""
        results = [json.loads(path.read_text()) for path in self.run.path.glob("studies/*/trials/*/result.json")]
        assert len(results) == len(list(self.run.path.glob("studies/*/trials/*"))) == trials
        assert {result["state"] for result in results} == {"COMPLETE"}
        assert len(list(self.run.path.glob("studies/*/retrain/seed*/result.json"))) == 1
        assert not self.run.lock.exists()


def wait_until(condition: Callable[[], object], seconds: float = 240) -> None:
    """Wait for it; fails after a time that no machine needs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.3)


def raylet_of(host: Host) -> int:
    """The process of a host's raylet."""
    return next(pid for pid, line in host.processes().items() if line.partition(" ")[0].endswith("/raylet"))


def need_jobs_api() -> None:
    """Skip where Ray has no dashboard, which the Jobs API is a part of."""
    if importlib.util.find_spec("aiohttp_cors") is None:
        pytest.skip("NOT TESTED with Ray's Jobs API: ray[default] is not installed")


@contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """Hosts that die with the bed leave Ray's folders behind: they are removed."""
    try:
        yield
    finally:
        for path in folder.glob("on_hosts/*/node.folder"):
            shutil.rmtree(path.read_text().strip(), ignore_errors=True)


@contextmanager
def ssh_site(folder: Path, count: int) -> Iterator[Site]:
    """``count`` hosts and a workstation; skips where there is no sshd or namespaces are refused."""
    if (sshd := shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")) is None:
        pytest.skip("NOT TESTED over ssh: no sshd is installed (Debian: openssh-server)")
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(SSHD.format(folder=folder))
    (folder / "ssh_config").write_text(SSH.format(folder=folder))
    with (
        _swept(folder),
        bed(count + 1) as hosts,
        tempfile.TemporaryDirectory(prefix="ct") as short,
        ExitStack() as stack,
    ):
        for host in hosts[1:]:
            host.run(["mkdir", "-p", "/run/sshd"])
            server = stack.enter_context(host.popen([sshd, "-D", "-f", folder / "sshd_config"]))
            stack.callback(server.terminate)
        site = Site(hosts[0], hosts[1:], folder, Path(short))
        for host in hosts[1:]:
            login = ["bash", "-c", f"until ssh -F {folder}/ssh_config {host.name} true; do sleep 0.1; done"]
            hosts[0].run(login, timeout=60)
        yield site
