"""Several hosts on one machine: namespaces joined by a bridge that leads nowhere else.

Each host has a network, PID, UTS, IPC and mount namespace of its own: own processes, name, address, /etc/hosts,
/run, /dev/shm and /tmp/ray. All other files are shared, as on a cluster's file system. The namespaces have no names
and live as long as their PID 1, which dies with the process that made it: two beds never meet, and nothing is left
however a test ends.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NETWORK = "10.66.0."
OWN = ("/run", "/dev/shm", "/tmp/ray")
TOOLS = ("ip", "nsenter", "setpriv", "unshare")
FOR_EVER = (
    "set +e; trap : TERM; while :; do sleep 3600 & wait; done"  # bash reaps what its host's processes leave behind
)
HOST = (
    'set -e; hostname "$1"; mount --bind "$2" /etc/hosts; shift 2; for own; do mount -t tmpfs none "$own"; done;'
    f" echo ready; {FOR_EVER}"
)
NAMESPACES = ("--net", "--pid", "--fork", "--mount-proc", "--uts", "--ipc", "--mount", "--kill-child")


@dataclass(frozen=True)
class Host:
    """A host. ``pid``: its PID 1 as this machine sees it; ``switch``: the process that holds the bridge."""

    name: str
    address: str
    pid: int
    switch: int
    port: str

    def inside(self, command: Sequence[object]) -> list[str]:
        """The command that runs one on this host."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p"]
        # a process that is terminated from outside takes the one inside with it; the working folder is kept
        return [*enter, "setpriv", "--pdeathsig", "TERM", "env", "-C", str(Path.cwd()), *map(str, command)]

    def popen(
        self, command: Sequence[object], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command on the host; ``env`` is added to this process's environment."""
        return subprocess.Popen(self.inside(command), env={**os.environ, **(env or {})}, **options)

    def run(
        self,
        command: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end, ``text`` on its input; with ``check`` it must exit with 0.

        Output goes by way of files, which daemons that it leaves behind may hold open.
        """
        with (
            tempfile.TemporaryFile("w+") as given,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            given.write(text)
            given.seek(0)
            with self.popen(command, env=env, stdin=given, stdout=out, stderr=err) as process:
                try:
                    process.wait(timeout)
                finally:
                    process.kill()
            for file in (out, err):
                file.seek(0)
            done = subprocess.CompletedProcess([*map(str, command)], process.returncode, out.read(), err.read())
        assert done.returncode == 0 or not check, f"{command} on {self.name}: {done.stdout}{done.stderr}"
        return done

    def cut(self) -> None:
        """Cut the host off from all others: packets are lost, nothing is refused."""
        _ip(self.switch, f"link set {self.port} down")

    def mend(self) -> None:
        """Join the host to the others again."""
        _ip(self.switch, f"link set {self.port} up")

    def processes(self) -> dict[int, str]:
        """What runs on the host besides its PID 1, as ``pid (of this machine) -> command line``."""
        mine, found = Path(f"/proc/{self.pid}/ns/pid").readlink(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "ns/pid").readlink() == mine and int(folder.name) != self.pid:
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    found[int(folder.name)] = line or (folder / "comm").read_text().strip()
            except OSError:  # it has ended meanwhile
                continue
        return {pid: line for pid, line in found.items() if line != "sleep 3600"}  # PID 1's own


def _ip(pid: int, *lines: str) -> None:
    """Run lines of ``ip`` in the network namespace of a process."""
    command = ["nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{lines}: {done.stdout}{done.stderr}"


@contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is ready; it dies with this one."""
    bound = ["setpriv", "--pdeathsig", "KILL", *command]
    with subprocess.Popen(bound, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", f"{command[:2]} has ended"
            yield process
        finally:
            process.kill()


def refusal() -> str:
    """Why this machine cannot have several hosts, '' where it can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not found (Debian: iproute2, util-linux)"
    done = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"namespaces are refused: {done.stderr.strip()}" if done.returncode else ""


@contextmanager
def bed(count: int, own: Sequence[str] = ()) -> Iterator[list[Host]]:
    """Hosts ``n0``, ``n1``, ... that reach each other by name; skips where namespaces are refused.

    ``own``: further folders that each host has of its own, empty at first.
    """
    if reason := refusal():
        pytest.skip(f"NOT TESTED on several hosts: {reason}")
    Path("/tmp/ray").mkdir(exist_ok=True)
    names = [f"n{number}" for number in range(count)]
    addresses = [f"{NETWORK}{10 + number}" for number in range(count)]
    with ExitStack() as stack:
        known = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "hosts"
        lines = [f"{address} {name}\n" for address, name in zip(addresses, names, strict=True)]
        known.write_text("127.0.0.1 localhost\n" + "".join(lines))
        switch = stack.enter_context(_process("unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity")).pid
        _ip(switch, "link add br0 type bridge", "link set br0 up", "link set lo up")
        hosts = []
        for name, address in zip(names, addresses, strict=True):
            script = ["bash", "-c", HOST, "host", name, str(known), *OWN, *own]
            outer = stack.enter_context(_process("unshare", *NAMESPACES, *script)).pid
            pid = int(Path(f"/proc/{outer}/task/{outer}/children").read_text())
            port = f"v{name}"
            _ip(
                pid,
                "link set lo up",
                f"link add eth0 type veth peer name {port} netns {switch}",
                f"addr add {address}/24 dev eth0",
                "link set eth0 up",
            )
            _ip(switch, f"link set {port} master br0 up")
            hosts.append(Host(name, address, pid, switch, port))
        yield hosts
