"""Launching over ssh, what can be seen without a server: mistakes, files, and the scripts that run on a host."""

import io
import shlex
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.launch.backends.ssh import SshProfile
from cotuning_tune.launch.profile import profile_text, read_profile
from cotuning_tune.launch.record import Launch, private_folder
from cotuning_tune.launch.remote import packed
from tests.launch.guides import ROOT
from tests.servers import free_port

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the launches of this test."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    return tmp_path / "launches"


@pytest.fixture
def start(call: Call, tmp_path: Path) -> Callable[..., tuple[int, list[str], list[str]]]:
    """``start(lines, *more)`` launches with a profile of these lines."""

    def run(lines: str, *more: object) -> tuple[int, list[str], list[str]]:
        profile = tmp_path / "site.toml"
        profile.write_text(lines)
        experiment = ROOT / "search_spaces" / "tiny.toml"
        return call("launch", "ssh", experiment, "--storage", tmp_path / "runs", "--profile", profile, *more)

    return run


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "ssh needs hosts"),
        ("hosts = ['a', 'b', 'a']", "a host is named twice"),
        ("hosts = ['-oProxyCommand=x']", "'-oProxyCommand=x' is not a host"),
        ("hosts = ['a b']", "'a b' is not a host"),
        ("hosts = ['a']\nenv = ['1=2']", "'1=2' is not NAME=VALUE"),
        ("hosts = ['a', 'b']\naddresses = ['10.0.0.1']", "1 for 2 hosts"),
        ("hosts_file = '/no/file'", "cannot be read"),
        ("hosts_file = 'hosts'", "an absolute path is needed"),
        ("host = ['a']", "did you mean 'hosts'?"),
    ],
)
def test_a_wrong_profile(start: Call, lines: str, said: str) -> None:
    """It is refused in one line before anything is asked of a host."""
    code, _, (line,) = start(lines, "--dry-run")
    assert code == 2
    assert said in line


def test_dry_run(start: Call, launches: Path) -> None:
    """Files and commands are shown, no token and no database URL among them, and nothing is written."""
    code, out, _ = start("hosts = ['a', 'b']", "--optuna-storage", "postgresql://u:secret@h/d", "--dry-run")
    assert code == 0
    assert out[0] == f"# {launches / 'tiny' / 'settings.sh'}"
    assert sum("start.sh worker" in line and line.startswith("ssh ") for line in out) == 1
    assert not [line for line in out if "secret" in line]
    assert not launches.exists()


def test_hosts_from_a_file(start: Call, tmp_path: Path) -> None:
    """A host on each line, comments left out."""
    (tmp_path / "hosts").write_text("# ours\na\n\nme@b  # the new one\n")
    _, out, _ = start(f"hosts_file = '{tmp_path / 'hosts'}'", "--dry-run")
    assert [shlex.split(line)[-2] for line in out if line.startswith("ssh ")] == ["a", "me@b", "a"]


def test_a_host_that_is_not_reached(start: Call, launches: Path) -> None:
    """One line names it, with ssh's reason; no launch is written down."""
    port = free_port()
    code, _, (line,) = start(f"hosts = ['127.0.0.1']\nssh_options = ['-F', 'none', '-p', '{port}']")
    assert code == 2
    assert line.startswith("cotuning-tune: 127.0.0.1 is not reached by ssh: ")
    assert "refused" in line
    assert not list(launches.glob("*/launch.json"))


def test_the_verbs_where_the_head_is_not_reached(call: Call, tmp_path: Path) -> None:
    """Status does not know, and says why; logs and stop are refused in one line that names the host."""
    options = ["-F", "none", "-p", str(free_port())]
    facts = {"hosts": ["127.0.0.1"], "options": options, "folders": ["x"], "address": "127.0.0.1"}
    made = Launch("tiny", "ssh", "tiny.toml", str(tmp_path), {"stop_s": 1, "dashboard_port": 1}, facts)
    private_folder(made.folder)
    made.save()
    code, out, _ = call("launch", "status")
    assert code == 0
    assert out[0].startswith("tiny: unknown (127.0.0.1 is not reached by ssh: ")
    for verb in ("logs", "stop"):
        code, _, (line,) = call("launch", verb)
        assert code == 2
        assert "127.0.0.1" in line
        assert "not reached" in line


def test_what_is_sent_is_readable_by_its_owner_alone() -> None:
    """Each file of the archive has mode 0600, and its text."""
    with tarfile.open(fileobj=io.BytesIO(packed({"token": "abc", "experiment/x.toml": "ü"}))) as archive:
        assert [(entry.name, entry.mode) for entry in archive] == [("token", 0o600), ("experiment/x.toml", 0o600)]
        assert archive.extractfile("experiment/x.toml").read().decode() == "ü"


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A launch's folder on a host."""
    folder = tmp_path / "here"
    folder.mkdir()
    for path in (ROOT / "launch/ssh").glob("*.sh"):
        (folder / path.name).write_text(path.read_text())
    (folder / "settings.sh").write_text("python=python3\n")
    return folder


@pytest.fixture
def session(scripts: Path) -> Iterator[subprocess.Popen[str]]:
    """A session called ``node`` of two processes."""
    command = ["sh", "-c", '. "$(dirname "$0")/env.sh"; mark node; sleep 600 & echo up; wait', str(scripts / "node.sh")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def _sh(scripts: Path, line: str) -> list[str]:
    command = ["sh", "-c", f'. "$(dirname "$0")/env.sh"; {line}', str(scripts / "any.sh")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.split()


def _script(scripts: Path, name: str, *words: str) -> list[str]:
    command = ["sh", str(scripts / name), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_a_session_is_known_and_ended(scripts: Path, session: Any) -> None:
    """All its processes are found, status says that it lives, stop ends them all and removes token and folder."""
    found = _sh(scripts, "members node")
    assert len(found) == 2
    assert str(session.pid) in found
    assert _script(scripts, "status.sh") == ["none", "alive"]
    (scripts / "token").write_text("abc")
    ray = scripts / "ray"
    (ray / "session_2026/logs").mkdir(parents=True)
    (scripts / "node.folder").write_text(str(ray))
    assert _script(scripts, "stop.sh", "node") == []
    assert session.wait(20) == -15
    assert _sh(scripts, "members node") == []
    assert _script(scripts, "status.sh") == ["none", "gone"]
    assert not (scripts / "token").exists()
    assert not ray.exists()
    assert (scripts / "ray-logs").is_dir()


def test_a_number_used_again_is_nobody_of_ours(scripts: Path, session: Any) -> None:
    """A session whose leader started at another time, or in another boot, is not touched."""
    path = scripts / "node.session"
    number, started, boot = path.read_text().split()
    for other in (f"{number} 1 {boot}\n", f"{number} {started} another-boot\n"):
        path.write_text(other)
        assert _script(scripts, "status.sh") == ["none", "gone"]
        assert _script(scripts, "stop.sh", "node") == []
        assert session.poll() is None


@pytest.mark.parametrize(("code", "said"), [("0", "0"), ("85", "85"), (None, "killed")])
def test_the_driver_of_a_host(scripts: Path, code: str | None, said: str) -> None:
    """Status tells its exit code, and that it was killed where it left none."""
    (scripts / "driver.session").write_text("1 1 another-boot\n")
    if code:
        (scripts / "driver.exit").write_text(f"{code}\n")
    assert _script(scripts, "status.sh") == [said, "gone"]
    assert _script(scripts, "stop.sh", "driver", "1") == ["none"]


def test_the_profile_file_says_what_the_profile_is() -> None:
    """``launch/profiles/ssh.toml`` shows every key with its default and meaning, and sets none."""
    path = ROOT / "launch" / "profiles" / "ssh.toml"
    shown = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and " = " in line]
    assert "\n".join(shown) + "\n" == profile_text(SshProfile)
    assert read_profile(SshProfile, path, {}, "ssh") == SshProfile()
