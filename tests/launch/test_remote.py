"""Where the connections to hosts are kept: in a private folder, under a name that every system takes."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotuning_tune.launch import remote
from cotuning_tune.launch.remote import Remote

SUFFIX = "." + 16 * "X"  # that ssh appends while it makes a socket


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this user, as short as real ones are."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def kept(host: str = "gpu1", *options: str) -> str:
    """The socket of the connection to a host, '' where none is kept."""
    words = [word for word in Remote(host, options).shared("true") if word.startswith("ControlPath=")]
    return words[0].removeprefix("ControlPath=") if words else ""


def test_a_connection_is_kept_in_a_private_folder(runtime: Path) -> None:
    """In the user's runtime folder, mode 0700, found again by the next command, another one for another host."""
    path = Path(kept())
    assert path.parent == runtime / "cotuning_tune-ssh"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert kept() == str(path)
    assert len({kept(), kept("gpu2"), kept("gpu1", "-p", "22")}) == 3


def test_nothing_lies_below_the_temporary_folder(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of old that somebody has put there is not touched."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    monkeypatch.setattr("tempfile.tempdir", None)
    old = tmp_path / "t" / f"cotuning_tune-ssh-{os.getuid()}"
    old.mkdir(parents=True, mode=0o755)
    assert str(tmp_path / "t") not in kept()
    assert stat.S_IMODE(old.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["x" * 80, "with space", "100%", "it's"])
def test_a_place_that_ssh_cannot_use_is_passed_over(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is too long, or in words that ssh takes apart: the next place, or no kept connection."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    for variable, folder in (("COTUNING_TUNE_CACHE", "cache"), ("HOME", "home")):
        monkeypatch.setenv(variable, str(tmp_path / name / folder))
    monkeypatch.setattr("cotuning_tune.base.private.runtime_folder", lambda: None)
    assert kept() == ""
    assert "ControlMaster=auto" not in Remote("gpu1").shared("true")
    monkeypatch.setenv("HOME", "/tmp")  # short on every system
    monkeypatch.setattr(remote, "host_folders", lambda *_: iter([tmp_path / name, Path("/tmp")]))
    (tmp_path / name).mkdir(exist_ok=True)
    assert Path(kept()).parent == Path("/tmp")


def test_the_longest_place_still_holds_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket with what ssh appends can be made in every place that is taken."""
    short = Path("/tmp") / f"ct{os.getpid()}"
    folder = short / ("x" * (68 - len(str(short)) - 1))
    folder.mkdir(parents=True)
    monkeypatch.setattr(remote, "host_folders", lambda *_: iter([folder]))
    try:
        path = kept() + SUFFIX
        assert len(path) < 104
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
        Path(path).unlink()
    finally:
        folder.rmdir()
        short.rmdir()


def test_a_file_system_without_sockets_is_passed_over(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a socket cannot be made ssh would end: the connection is kept elsewhere, or not at all."""
    monkeypatch.setattr(remote, "_holds_sockets", lambda folder: False)
    assert kept() == ""
