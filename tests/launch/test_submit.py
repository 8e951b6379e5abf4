"""Submitting to a running cluster, what can be seen without one: mistakes, and what travels with the job."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends import submit
from cotuning_tune.launch.backends.submit import SubmitBackend, SubmitProfile
from cotuning_tune.launch.profile import profile_text, read_profile
from tests.launch.guides import ROOT
from tests.servers import free_port

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the launches of this test; no token of the user's."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    return tmp_path / "launches"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with an experiment, code, data and an older run in it."""
    for name in ("spaces/tiny.toml", "own/code.py", "data/a/1.jpg", "runs/old/x", ".git/config"):
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(name)
    return tmp_path / "project"


def _request(project: Path, studies: str = "", **profile: object) -> Request:
    return Request(
        project / "spaces/tiny.toml", "tiny", "/shared", studies, SubmitProfile(**profile), project / "launch"
    )


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_travels(project: Path, tmp_path: Path) -> None:
    """The experiment alone, or the folder that it lies in without data, runs and hidden files."""
    request = _request(project)
    (tmp_path / "launch").mkdir()
    assert _files(submit._staged(request)) == ["tiny.toml"]
    folder = submit._staged(_request(project, working_dir=str(project), excludes=("data", "runs", ".*", "launch")))
    assert _files(folder) == ["own/code.py", "spaces/tiny.toml"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_database_url_travels_in_a_private_file(project: Path) -> None:
    """It is in a file of mode 0600, and neither in the command nor in the environment of the job."""
    request = _request(project, "postgresql://u:secret@h/d")
    path = submit._staged(request) / "optuna_storage.url"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (request.optuna_storage.reveal(), 0o600)
    assert "secret" not in SubmitBackend().plan(request).shown(request.folder)


def test_too_much_does_not_travel(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder above the limit is refused, with the key that leaves things out."""
    monkeypatch.setattr(submit, "MOST_BYTES", 10)
    with pytest.raises(UserError, match=r"MiB would travel with the job.*submit\.excludes"):
        submit._staged(_request(project, working_dir=str(project / "spaces")))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("address=10.0.0.1:8265", "the dashboard's, as http://127.0.0.1:8265"),
        ("env=['A B=1']", "'A B=1' is not NAME=VALUE"),
        ("token_path=token", "an absolute path is needed"),
        ("working_dir=/usr", "lies outside it"),
        ("token_path=/no/token", "cannot be read"),
    ],
)
def test_mistakes(call: Call, tmp_path: Path, setting: str, said: str) -> None:
    """Each is one line and exit code 2, before anything is sent."""
    experiment = ROOT / "search_spaces" / "tiny.toml"
    code, _, (line,) = call("launch", "submit", experiment, "--storage", tmp_path, "--set", setting)
    assert code == 2
    assert said in line


def test_no_cluster(call: Call, tmp_path: Path, launches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none answers that is said, whatever address the environment names for Ray; nothing is written down."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    address = f"http://127.0.0.1:{free_port()}"
    experiment = ROOT / "search_spaces" / "tiny.toml"
    code, _, (line,) = call("launch", "submit", experiment, "--storage", tmp_path, "--set", f"address={address}")
    assert code == 2
    assert f"no Ray cluster answers at {address}: start one" in line
    assert not list(launches.glob("*/launch.json"))


def test_the_profile_file_says_what_the_profile_is() -> None:
    """``launch/profiles/submit.toml`` shows every key with its default and meaning, and sets none."""
    path = ROOT / "launch" / "profiles" / "submit.toml"
    shown = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and " = " in line]
    assert "\n".join(shown) + "\n" == profile_text(SubmitProfile)
    assert read_profile(SubmitProfile, path, {}, "submit") == SubmitProfile()
