"""The bed itself: several hosts on one machine."""

import os
import subprocess
import time
from pathlib import Path

from tests.hosts.bed import bed

PING = ["bash", "-c", "exec 3<>/dev/tcp/n1/7000"]
LISTEN = ["python3", "-c", "import socket; s = socket.create_server(('', 7000)); print('up', flush=True); s.accept()"]


def test_hosts_are_apart_and_together(tmp_path: Path) -> None:
    """Each has its own name, processes, /run and /dev/shm; files are shared, and they reach each other by name."""
    with bed(2) as (n0, n1):
        assert n0.run(["hostname"]).stdout == "n0\n"
        assert n1.run(["hostname", "-I"]).stdout.split() == [n1.address]
        n0.run(["touch", "/dev/shm/mine", "/run/mine", tmp_path / "ours"])
        assert "mine" in n0.run(["ls", "/dev/shm", "/run"]).stdout
        assert "mine" not in n1.run(["ls", "/dev/shm", "/run"]).stdout
        assert n1.run(["ls", tmp_path]).stdout == "ours\n"
        server = n1.popen(LISTEN, stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"up\n"
        assert [line for line in n1.processes().values() if "create_server" in line]
        assert n0.processes() == {}
        n0.run(PING)
        server.wait(20)
        server.stdout.close()


def test_a_link_is_cut_and_mended() -> None:
    """What is sent over a cut link is lost without a word; mended, it arrives."""
    with bed(2) as (n0, n1):
        server = n1.popen(LISTEN, stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"up\n"
        n1.cut()
        assert n0.run(["timeout", "1", *PING], check=False).returncode == 124
        n1.mend()
        n0.run(["timeout", "20", *PING])
        server.wait(20)
        server.stdout.close()


def test_nothing_is_left() -> None:
    """Two beds stand beside each other, and their processes are gone with them, daemons too."""
    with bed(1) as (first,):
        with bed(1) as (second,):
            second.run(["setsid", "-f", "sleep", "9999"], timeout=20)
            (pid,) = second.processes()
            assert first.processes() == {}
        deadline = time.monotonic() + 20
        while os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            assert time.monotonic() < deadline, "a daemon outlives its host"
            time.sleep(0.05)


def test_a_terminated_command_ends_on_its_host() -> None:
    """Terminating what ``popen`` gave ends the command inside."""
    with bed(1) as (host,):
        process = host.popen(["sleep", "9999"])
        while "sleep 9999" not in host.processes().values():
            time.sleep(0.05)
        process.terminate()
        process.wait(20)
        deadline = time.monotonic() + 20
        while host.processes():
            assert time.monotonic() < deadline, host.processes()
            time.sleep(0.05)
