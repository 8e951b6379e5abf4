"""Real servers that tests start for themselves on 127.0.0.1: an S3 server, PostgreSQL, a line that can be cut."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_answer(url: str, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    """Wait until a server answers over HTTP, whatever it says."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except urllib.error.HTTPError:
            return
        except (OSError, urllib.error.URLError):
            assert process.poll() is None, f"the server of {url} has ended"
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


@contextmanager
def s3_server() -> Iterator[int]:
    """moto's server; its port."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_answer(f"http://127.0.0.1:{port}", process)
            yield port
        finally:
            process.kill()


@contextmanager
def bucket(port: int, name: str) -> Iterator[None]:
    """A new bucket of the S3 server behind a port, which this process and those it starts use from here on."""
    import s3fs

    from cotuning_tune.base.files import place

    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            patch.setenv(key, value)
        s3fs.S3FileSystem.clear_instance_cache()  # those of an earlier server would be used for this one
        cast(Any, place(f"s3://{name}/x")).fs.mkdir(name)
        yield
        s3fs.S3FileSystem.clear_instance_cache()


class Line:
    """A TCP line to a port of this machine that can be cut and mended."""

    def __init__(self, to: int) -> None:
        self.to, self.port = to, free_port()
        self._listener: socket.socket | None = None
        self._pairs: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Listen and pass everything on."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse new connections and break the present ones."""
        assert self._listener is not None
        for one in (self._listener, *self._pairs):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self._pairs += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def _postgresql_tool(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else shutil.which(name)
    if not path:
        pytest.skip("NOT TESTED on PostgreSQL: no server is installed (Debian: postgresql)")
    return path


class Database(str):
    """The URL of a PostgreSQL that can be stopped and started; ``log``: what it writes down."""

    log: Path
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def postgresql_server(
    address: str = "127.0.0.1",
    inside: Callable[[Sequence[object]], list[str]] = lambda command: [*map(str, command)],
    options: str = "",
) -> Iterator[Database]:
    """A PostgreSQL of its own, with more ``options`` of the server; skips where none is installed.

    ``inside`` makes a command one that runs on another host of a bed, whose ``address`` the server then listens on.
    """
    initdb, pg_ctl = _postgresql_tool("initdb"), _postgresql_tool("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="cotuning_tune-postgresql-"))
    user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    data, port = folder / "data", free_port()

    def run(*arguments: str) -> None:
        command = inside([*user, *arguments])
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(initdb, "-D", str(data), "-A", "trust", "-U", "tester", "--no-sync")
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {address}/24 trust\n")
    served = f"-h {address} -p {port} -k {folder} -F {options}"
    database = Database(f"postgresql+psycopg://tester@{address}:{port}/postgres")
    database.log = folder / "server.log"
    database.start = lambda: run(pg_ctl, "-D", str(data), "-l", str(database.log), "-w", "-o", served, "start")
    database.stop = lambda: run(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")
    database.start()
    try:
        yield database
    finally:
        database.stop()
        shutil.rmtree(folder)
