"""Other machines by ssh: key login only, one connection for all commands; what goes wrong names the host."""

import hashlib
import io
import os
import platform
import re
import secrets
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.private import host_folders

T = TypeVar("T")
NOT_REACHED = 255  # ssh's own exit code for what it could not do itself
OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3")
SHARED = ("ControlMaster=auto", "ControlPersist=30")


NAME = 16
MOST_PATH = 104 - len("/.") - 16 - 1  # of a socket on every system, less what ssh appends while it makes one
PLAIN = re.compile(r"[^\s%\"'$\\]+")


class NotReached(UserError):  # noqa: N818 - what happened
    """ssh did not get to the host, or it did not answer in time."""


@dataclass(frozen=True)
class Remote:
    """A host as ssh knows it (``gpu1``, ``user@gpu2``), and further ``options`` of ssh."""

    host: str
    options: tuple[str, ...] = ()

    def command(self, line: str = "", *more: str) -> list[str]:
        """The command that runs a line of the host's shell; ``more``: further options of ssh."""
        settings = [word for option in OPTIONS for word in ("-o", option)]
        return ["ssh", *settings, *self.options, *more, self.host, *([line] if line else [])]

    def shared(self, line: str) -> list[str]:
        """The same over a connection that is kept open for those that follow."""
        kept = self._socket()
        settings = (*SHARED, f"ControlPath={kept}") if kept else ()
        return self.command(line, *[word for option in settings for word in ("-o", option)])

    def _socket(self) -> Path | None:
        """Where the connection is kept, the same for every command to this host; None where there is no place.

        The path must be short, and in words that ssh does not take apart.
        """
        name = hashlib.sha256(repr((platform.node(), self.host, self.options)).encode()).hexdigest()[:NAME]
        for folder in host_folders("ssh", cache_root()):
            if len(os.fsencode(folder)) < MOST_PATH - NAME and PLAIN.fullmatch(str(folder)) and _holds_sockets(folder):
                return folder / name
        return None

    def run(self, line: str, given: bytes = b"", seconds: float = 180) -> str:
        """What a line prints, ``given`` on its input. UserError with host and reason where it fails."""
        with tempfile.TemporaryFile() as problems:  # a kept connection would hold a pipe open
            try:
                done = subprocess.run(
                    self.shared(line),
                    input=given,
                    stdout=subprocess.PIPE,
                    stderr=problems,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise NotReached(f"{self.host} has not answered within {seconds:.0f} s") from None
            except FileNotFoundError:
                raise UserError("there is no ssh on this machine: install an OpenSSH client") from None
            if done.returncode:
                raise self._problem(done.returncode, problems)
        return done.stdout.decode(errors="replace").strip()

    def stream(self, line: str) -> Iterator[str]:
        """What a line prints, as it comes. UserError where the host is not reached."""
        with (
            tempfile.TemporaryFile() as problems,
            subprocess.Popen(self.command(line), stdin=subprocess.DEVNULL, stdout=-1, stderr=problems) as process,
        ):
            try:
                assert process.stdout is not None
                while piece := os.read(process.stdout.fileno(), 1 << 16):
                    yield piece.decode(errors="replace")
                code = process.wait()
            finally:
                process.terminate()  # where nobody reads on
            if code:
                raise self._problem(code, problems)

    def _problem(self, code: int, problems: BinaryIO) -> UserError:
        """Why a command failed: the last line that it said."""
        problems.seek(0)
        said = problems.read().decode(errors="replace").strip().splitlines()
        reason = said[-1].strip() if said else f"exit code {code}"
        if code == NOT_REACHED:
            return NotReached(f"{self.host} is not reached by ssh: {reason}")
        return UserError(f"{self.host}: {reason}")

    def let_go(self) -> None:
        """Close the connection that was kept open."""
        subprocess.run(
            [*self.shared("")[:-1], "-O", "exit", self.host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=30,
        )


def _holds_sockets(folder: Path) -> bool:
    """Whether the file system has sockets: ssh would end where it has none."""
    path = folder / f".{secrets.token_hex(8)}"
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        return True
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def letting_go(remotes: Sequence[Remote]) -> Iterator[None]:
    """Close all kept connections in the end."""
    try:
        yield
    finally:
        for remote in remotes:
            remote.let_go()


def on_all(remotes: Sequence[Remote], call: Callable[[Remote], T]) -> list[T]:
    """``call`` on every host at the same time, waited for; then the first one's UserError is raised, if any."""
    if not remotes:
        return []
    with ThreadPoolExecutor(len(remotes)) as pool:
        pending = [pool.submit(call, remote) for remote in remotes]
    return [one.result() for one in pending]


def packed(files: Mapping[str, str]) -> bytes:
    """A tar archive of texts by name, each readable by its owner alone (0600)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
