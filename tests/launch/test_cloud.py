"""The backend ``cloud`` with a stand-in for the program ``ray``: what is asked, and what the head's script does."""

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import Launch, Request, launch, relaunch, state_of, stop
from cotuning_tune.launch.backends import cloud
from cotuning_tune.launch.backends.cloud import CloudBackend, CloudProfile, cluster_name
from cotuning_tune.launch.keep_log import keep_log
from tests.launch import fake_ray
from tests.servers import S3_KEYS

ROOT = Path(__file__).parents[2]
URL = "postgresql://me:pass-word@database/studies"
CLI = Callable[..., tuple[int, list[str], list[str]]]
# the head's python: waits for a signal, for the file ``end`` with its exit code, or for the head's end
PYTHON = """#!/bin/sh
case "$2" in *keep_log) exit 0;; esac
trap 'echo ending; exit 85' TERM
echo "$*" > ~/seen
echo "token file $RAY_AUTH_TOKEN_PATH; mode $RAY_AUTH_MODE" >> ~/seen
echo "key $AWS_SECRET_ACCESS_KEY; url $COTUNING_TUNE_OPTUNA_STORAGE" >> ~/seen
echo "the driver speaks"
while [ -f ~/seen ] && [ ! -f ~/end ]; do sleep 0.05; done
[ ! -f ~/seen ] || exit "$(cat ~/end)"
"""


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the stand-in, which is first on PATH; AWS's package and keys are there."""
    folder, programs = tmp_path / "fake", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    (folder / "python").write_text(PYTHON)
    (programs / "ray").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {fake_ray.__file__} "$@"\n')
    (programs / "ray").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("FAKE_RAY", str(folder))
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    monkeypatch.setattr(cloud, "_check_sdk", lambda profile: None)
    for name, value in {**S3_KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():  # nobody listens there
        monkeypatch.setenv(name, value)
    yield folder
    if (folder / "head").exists():
        (folder / "head" / "end").write_text("0")


def _asked(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def _request(tmp_path: Path, **profile: Any) -> Request:
    keys = tmp_path / "keys"
    keys.write_text("# for the bucket\nAWS_ACCESS_KEY_ID=me\nAWS_SECRET_ACCESS_KEY=it's $secret\n")
    given = {"package": "git+https://example.org/x.git", "security_group": "sg-1", "environment": str(keys), **profile}
    folder = tmp_path / "launches" / "tiny"
    return Request(ROOT / "search_spaces" / "tiny.toml", "tiny", "s3://bucket/runs", URL, CloudProfile(**given), folder)


def _launched(tmp_path: Path, **profile: Any) -> Launch:
    return launch("cloud", _request(tmp_path, **profile))


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_started_watched_and_stopped(ray: Path, tmp_path: Path) -> None:
    """up, the studies' URL to the head alone, the driver in the background; stopped cleanly, then the machines."""
    made = _launched(tmp_path)
    config, head = made.facts["cluster"], ray / "head"
    assert [words[0] for words in _asked(ray)] == ["up", "rsync-up", "exec"]
    assert _asked(ray)[0] == ["up", "-y", "--disable-usage-stats", config]
    _wait(lambda: (head / "seen").exists() and "url" in (head / "seen").read_text())
    assert state_of(made) == "running"
    with pytest.raises(UserError, match="'tiny' is running: stop it first"):
        relaunch(made)
    seen = (head / "seen").read_text()
    assert "-m cotuning_tune.cli.entry experiment.toml --storage s3://bucket/runs --name tiny" in seen
    assert "--address auto --nodes 3 --require-token" in seen
    assert f"token file {head}/cotuning-tune/token; mode token\nkey it's $secret; url {URL}\n" in seen
    assert "the driver speaks\n" in list(CloudBackend().log(made, follow=False))
    assert stop(made) == "stopped cleanly, the machines are down; nothing is lost"
    assert _asked(ray)[-1] == ["down", "-y", config]
    assert not head.exists()
    assert state_of(made).startswith("gone: the head cannot be reached")


def test_secrets_go_by_private_files(ray: Path, tmp_path: Path) -> None:
    """Token, keys and URL: in files with mode 0600 here and there, in no argument, YAML or script."""
    made = _launched(tmp_path)
    token = (made.folder / "token").read_text()
    assert len(token) == 64
    secret = ("token", "environment", "optuna_storage.url")
    for folder in (made.folder, ray / "head" / "cotuning-tune"):
        for name in secret:
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        for path in folder.iterdir():
            shown = path.name not in secret and path.is_file()
            assert not (shown and any(text in path.read_text() for text in (token, "pass-word", "$secret"))), path
    assert not any(text in (ray / "asked").read_text() for text in (token, "pass-word", "$secret"))


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("0", "done"),
        ("85", "unfinished"),
        ("2", "failed: a mistake in what was given, see logs"),
        ("1", "failed: exit code 1"),
    ],
)
def test_how_it_ended(ray: Path, tmp_path: Path, code: str, state: str) -> None:
    """The exit code tells; where nothing shall be taken down the head stays, and the run goes on there."""
    made = _launched(tmp_path, down=False)
    head = ray / "head"
    (head / "end").write_text(code)
    _wait((head / "cotuning-tune" / "code").exists)
    assert state_of(made) == state
    assert "".join(CloudBackend().log(made, follow=True)).endswith("the driver speaks\n")
    time.sleep(0.1)
    assert not (head / "called").exists()
    (head / "end").unlink()
    again = relaunch(made)
    assert again.attempt == 2
    assert state_of(again) == "running"
    assert (made.folder / "token").read_text() == (head / "cotuning-tune" / "token").read_text()


def test_all_is_taken_down_at_the_end(ray: Path, tmp_path: Path) -> None:
    """Workers first, then the head itself; a stop that comes too late finds nothing running."""
    made = _launched(tmp_path)
    head = ray / "head"
    (head / "end").write_text("0")
    _wait(lambda: (head / "called").exists() and "sudo" in (head / "called").read_text())
    called = [line.removeprefix(f"{head}/venv/bin/") for line in (head / "called").read_text().splitlines()]
    assert called == [f"ray teardown {head}/ray_bootstrap_config.yaml --yes --workers-only", "sudo shutdown -h now"]
    assert stop(made) == "stopped cleanly, the machines are down; nothing is lost"


def test_a_killed_driver_is_told(ray: Path, tmp_path: Path) -> None:
    """No exit code and no process: the head was started anew."""
    made = _launched(tmp_path)
    head = ray / "head" / "cotuning-tune"
    _wait((head / "pid").exists)
    pid = (head / "pid").read_text().strip()
    parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
    subprocess.run(["kill", "-KILL", parent, pid], check=True)
    _wait(lambda: state_of(made) != "running")
    assert state_of(made) == "killed: resume continues"


def test_what_ray_refuses_is_one_line(ray: Path, tmp_path: Path) -> None:
    """The last line that it says, and where all of it lies; a head that is gone still can be stopped."""
    (ray / "fail").write_text("up")
    said = r"'ray up' failed: botocore.exceptions.ClientError: not authorized \(all of it: .*/tiny/ray.log\)$"
    with pytest.raises(UserError, match=said):
        _launched(tmp_path)
    (ray / "fail").unlink()
    made = _launched(tmp_path)
    (ray / "fail").write_text("exec")
    assert stop(made) == "the head could not be reached; the machines are down, nothing is lost"


def test_the_log_outlives_the_head(ray: Path, tmp_path: Path) -> None:
    """What the head left beside the run is shown when it is gone."""
    made = replace(_launched(tmp_path), storage=str(tmp_path / "runs"))
    (tmp_path / "log").write_text("its last words\n")
    stop(made)
    assert "is not there" in "".join(CloudBackend().log(made, follow=False))
    keep_log(tmp_path / "log", f"{made.run}.log")
    assert "".join(CloudBackend().log(made, follow=False)).endswith("its last words\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": "azure"}, "no cloud 'azure'; there are: aws, gcp"),
        ({"package": ""}, "the profile's package is missing"),
        ({"package": "none.whl"}, "package none.whl cannot be read"),
        ({"environment": "none"}, "environment none cannot be read"),
        ({"environment": ""}, "nothing lets the machines write to the bucket"),
        ({"provider": "gcp"}, "gcp needs the profile's project, zone and image"),
        ({"security_group": ""}, "Ray would make one that opens port 22 to everybody"),
    ],
)
def test_a_wrong_profile_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Before anything is started, and with --dry-run too."""
    with pytest.raises(UserError, match=said):
        CloudBackend().check(_request(tmp_path, **change))


def test_an_open_ssh_port_must_be_asked_for(tmp_path: Path) -> None:
    """With open_ssh = true Ray makes its own security group."""
    CloudBackend().check(_request(tmp_path, security_group="", open_ssh=True))


def test_storage_and_names(tmp_path: Path, call: CLI) -> None:
    """A folder is on no two machines; gs:// is not supported, and what is instead is said; names are short."""
    with pytest.raises(UserError, match=r"is not shared by the machines of a cloud: name s3:.*gs:// is not supported"):
        CloudBackend().check(replace(_request(tmp_path), storage="/mnt/runs"))
    code, _, err = call("launch", "cloud", ROOT / "search_spaces" / "tiny.toml", "--storage", "gs://bucket/runs")
    assert (code, len(err)) == (2, 1)
    assert "s3://BUCKET/PREFIX is possible" in err[0]
    assert cluster_name("Cub200_a") == "cub200-a"
    for name in ("a" * 41, "7days", "__"):
        with pytest.raises(UserError, match="cannot name a cluster"):
            cluster_name(name)


def test_a_wrong_line_of_the_environment(ray: Path, tmp_path: Path) -> None:
    """Named by its number, its content is not shown."""
    (tmp_path / "bad").write_text("A=1\nmy secret\n")
    with pytest.raises(UserError, match=r"bad line 2 is not NAME=VALUE with a name of letters"):
        _launched(tmp_path, environment=str(tmp_path / "bad"))


def test_packages_and_credentials_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names what is missing: the cloud's package, or somebody's credentials."""
    profile = CloudProfile()
    monkeypatch.setitem(cloud.SDK, "aws", ("boto33",))
    with pytest.raises(UserError, match="'ray up' needs boto33 for aws: pip install boto3"):
        cloud._check_sdk(profile)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setitem(cloud.SDK, "gcp", ())
    with pytest.raises(UserError, match="no credentials for gcp: gcloud auth application-default login"):
        cloud._check_sdk(replace(profile, provider="gcp"))
    pytest.importorskip("boto3", reason="NOT TESTED: boto3 is missing")
    monkeypatch.setitem(cloud.SDK, "aws", ("boto3",))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="no credentials for aws: aws configure"):
        cloud._check_sdk(profile)


def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line where ``ray`` is not found."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="the program 'ray' is not found"):
        cloud._program()


def test_a_dry_run_needs_nothing(tmp_path: Path, call: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ray on PATH and without keys, YAML, script and commands are shown."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    given = ("package=git+https://a", "instance_profile=arn:1", "security_group=sg-1")
    words = [word for item in given for word in ("--set", item)]
    path = ROOT / "search_spaces" / "tiny.toml"
    code, out, err = call(
        "launch", "cloud", path, "--storage", "s3://b/r", "--optuna-storage", URL, *words, "--dry-run"
    )
    assert (code, err) == (0, [])
    assert 'cluster_name: "tiny"' in out
    assert any(line.startswith("ray up -y") for line in out)
    assert not [line for line in out if "pass-word" in line]
    assert list(tmp_path.iterdir()) == []


# what is written instead, and what is said of it
