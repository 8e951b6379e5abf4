"""The backend ``k8s`` against an API server of the test: what is sent, what is understood, what goes wrong."""

import base64
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import Launch, Request, find_launch, kube_api, launch, relaunch, state_of, stop
from cotuning_tune.launch.backends import k8s
from cotuning_tune.launch.backends.k8s import K8sBackend, K8sProfile
from cotuning_tune.launch.profile import profile_text
from cotuning_tune.launch.templates import launch_files
from tests.launch.kube_server import TOKEN, Kube, kube_server, write_kubeconfig

ROOT = Path(__file__).parents[2]
URL = "postgresql://me:pass-word@database/studies"
CLI = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    """The server, and a kubeconfig that leads to it; nothing waits long."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    monkeypatch.setattr(kube_api, "WAIT_S", 0.001)
    monkeypatch.setattr(kube_api, "POLL_S", 0.01)
    monkeypatch.setattr(k8s, "POLL_S", 0.01)
    with kube_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(_config(tmp_path, server)))
        yield server


def _config(folder: Path, server: Kube, token: str = TOKEN) -> Path:
    return write_kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{server.port}", token=token)


def _request(tmp_path: Path, studies: str = "", **profile: Any) -> Request:
    made = K8sProfile(**{"image": "example.org/cotuning-tune:1", "claim": "runs", **profile})
    return Request(
        ROOT / "search_spaces" / "tiny.toml", "tiny", "/mnt/runs", studies, made, tmp_path / "launches" / "tiny"
    )


def _launched(tmp_path: Path, **more: Any) -> Launch:
    return launch("k8s", _request(tmp_path, **more))


def test_a_launch_makes_every_object(kube: Kube, tmp_path: Path) -> None:
    """Claim, ConfigMap, NetworkPolicy, Secret, then the RayJob; all but the claim are deleted with it."""
    made = _launched(tmp_path, claim_size="1Gi", storage_class="shared")
    order = [path.rsplit("/", 2)[-2 if method == "PATCH" else -1] for method, path in kube.asked if method != "GET"]
    names = ["configmaps", "networkpolicies", "secrets"]
    rehearsal = ["rayjobs", "persistentvolumeclaims", *names]
    assert order == [*rehearsal, "persistentvolumeclaims", *names, "rayjobs", *names]
    (claim,), (config,) = kube.named("persistentvolumeclaims"), kube.named("configmaps")
    assert "ownerReferences" not in claim["metadata"]
    assert config["data"]["experiment.toml"] == made_text()
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", **made.facts}
    for plural in names:
        assert kube.named(plural)[0]["metadata"]["ownerReferences"] == [owner]
    assert state_of(made) == "queued"


def made_text() -> str:
    """The experiment's text."""
    return (ROOT / "search_spaces" / "tiny.toml").read_text()


def test_secrets_are_in_the_secret_alone(kube: Kube, tmp_path: Path, call: CLI) -> None:
    """Token and database password: in the Secret and in private files; in no other object, output or record."""
    made = _launched(tmp_path, studies=URL)
    (secret,) = kube.named("secrets")
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    token = data["auth_token"]
    assert data["optuna-storage"] == URL
    assert len(token) == 64
    others = [str(body) for body in kube.bodies if body.get("kind") != "Secret"]
    assert not [text for text in others if "pass-word" in text or token in text]
    for name in ("token", "optuna_storage.url"):
        assert stat.S_IMODE((made.folder / name).stat().st_mode) == 0o600
    public = [path for path in made.folder.iterdir() if path.name not in ("token", "optuna_storage.url")]
    assert not [path for path in public if "pass-word" in path.read_text() or token in path.read_text()]
    code, out, err = call("launch", "status")
    assert code == 0
    assert not [line for line in (*out, *err) if "pass-word" in line or token in line]
    kube.job()["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
    relaunch(made)
    assert kube.named("secrets")[-1]["data"]["auth_token"] != secret["data"]["auth_token"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "queued"),
        ({"jobDeploymentStatus": "Initializing"}, "queued"),
        ({"jobDeploymentStatus": "Suspended"}, "queued"),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "running"),
        ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}, "running: the cluster is being made again"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "done"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "unfinished: resume continues"),
        (
            {
                "jobDeploymentStatus": "Failed",
                "jobStatus": "FAILED",
                "message": "entrypoint failed with exit code 85, ",
            },
            "unfinished: resume continues",
        ),
        (
            {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "failed with exit code 75, "},
            "held: another driver works on the run",
        ),
        (
            {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "failed with\nexit code 2"},
            "failed: failed with exit code 2",
        ),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "failed: DeadlineExceeded"),
    ],
)
def test_the_state_is_what_the_status_says(status: dict[str, str], state: str) -> None:
    """Each status of KubeRay in our words; exit code 85 is unfinished, not failed."""
    assert k8s.job_state({"metadata": {}, "status": status}) == state


def test_stopped_and_resumed(kube: Kube, tmp_path: Path) -> None:
    """A stop deletes the RayJob after all that belongs to it and waits; a resume makes it again, with all else."""
    kube.gone_after = 3
    made = _launched(tmp_path)
    kube.job()["status"] = {"jobDeploymentStatus": "Running"}
    with pytest.raises(UserError, match="'tiny' is running: stop it first"):
        relaunch(made)
    assert stop(made) == "stopped cleanly; nothing is lost"
    assert kube.gone_after == 0
    assert not kube.named("rayjobs")
    assert stop(made) == "nothing is running"
    assert state_of(made).startswith("gone: ")
    again = relaunch(find_launch("tiny"))
    assert again.attempt == 2
    assert again.facts["name"] == f"ct-{made.id}-2"
    assert again.facts["uid"] != made.facts["uid"]
    assert state_of(again) == "queued"


def test_a_failed_job_is_made_again(kube: Kube, tmp_path: Path) -> None:
    """Launched again under its name, the old RayJob goes first."""
    made = _launched(tmp_path)
    kube.job()["status"] = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}
    assert relaunch(made).facts["uid"] != made.facts["uid"]
    assert len(kube.named("rayjobs")) == 1


def test_an_attempt_that_still_runs_is_left_alone(kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its state was not known when it was started again: refused, with nothing changed, not even the record."""
    made = _launched(tmp_path)
    before = list(kube.objects)
    monkeypatch.setattr(K8sBackend, "state", lambda *_: "unknown")
    with pytest.raises(UserError, match=f"the RayJob 'ct-{made.id}-1' in default is queued: stop it first"):
        relaunch(made)
    assert list(kube.objects) == before
    assert find_launch("tiny") == made


def test_what_the_server_cannot_help_for_a_moment_is_tried_again(kube: Kube, tmp_path: Path) -> None:
    """500, 503 and 429 once, then all goes well; a RayJob whose answer was lost is not made twice."""
    kube.errors = [(500, "a moment"), (503, "a moment"), (429, "slower")]
    kube.lost_answers = 1
    made = _launched(tmp_path)
    assert len(kube.named("rayjobs")) == 1
    assert kube.job()["metadata"]["uid"] == made.facts["uid"]


def test_a_server_that_stays_away_is_one_line(kube: Kube, tmp_path: Path) -> None:
    """After some tries: the server's own words, or that it does not answer."""
    kube.errors = [(500, "etcd is\ngone")] * kube_api.TRIES
    with pytest.raises(UserError, match=r"refuses it \(500\): etcd is gone$"):
        _launched(tmp_path)
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9", token=TOKEN)
    with pytest.raises(UserError, match=r"the API server http://127.0.0.1:9 does not answer: .*refused"):
        _launched(tmp_path)


def test_a_cluster_that_is_not_reached_spoils_no_list(kube: Kube, tmp_path: Path, call: CLI) -> None:
    """The state is unknown, with the reason; a stop says the reason and does nothing."""
    made = _launched(tmp_path)
    _config(tmp_path, kube, "expired")
    assert state_of(made).startswith("unknown: http://127.0.0.1")
    code, out, err = call("launch", "list")
    assert (code, err) == (0, [])
    assert any("does not know who you are" in line for line in out)
    with pytest.raises(UserError, match="renew the credentials"):
        stop(made)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((403, "rayjobs is forbidden"), "does not allow it (403): rayjobs is forbidden"),
        ((404, 'namespaces "x" not found'), 'namespaces "x" not found'),
        ((404, "no such page"), "KubeRay is not installed on http"),
        ((422, "spec: Invalid value"), "refuses it (422): spec: Invalid value"),
        ((409, "conflict"), "has it already, or is changing it (409): conflict"),
    ],
)
def test_a_refusal_is_one_line(kube: Kube, tmp_path: Path, call: CLI, error: tuple[int, str], said: str) -> None:
    """What the server refuses is told once, in one line, with exit code 2, and not tried again."""
    kube.errors = [(0, ""), error]
    request = ("--set", "image=a/b:1", "--set", "claim=runs")
    code, _, err = call("launch", "k8s", ROOT / "search_spaces" / "tiny.toml", "--storage", "/mnt/runs", *request)
    assert code == 2
    assert len(err) == 1
    assert said in err[0]
    assert len(kube.asked) == 2
    assert kube.objects == {}


@pytest.mark.parametrize("kind", ["RayJob", "ConfigMap", "NetworkPolicy", "Secret", "PersistentVolumeClaim"])
def test_a_mistyped_field_is_found_before_anything_is_made(kube: Kube, tmp_path: Path, kind: str) -> None:
    """The server is asked once for a strict check of every object, as a rehearsal; its words are told in one line."""
    kube.problems = lambda item: ['unknown field "spec.typo"'] * (item["kind"] == kind)
    with pytest.raises(UserError, match=r'refuses it \(\d+\): .*: unknown field "spec.typo"$'):
        _launched(tmp_path, claim_size="1Gi", storage_class="shared")
    assert kube.objects == {}
    assert [body.get("kind") for body in kube.bodies].count(kind) == 1


def test_without_lightkube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names the extra; a list of launches says it too."""
    monkeypatch.setitem(sys.modules, "lightkube", None)
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    with pytest.raises(UserError, match=r"pip install 'cotuning_tune\[k8s\]'$"):
        _launched(tmp_path)
    made = Launch(
        "tiny", "k8s", "tiny.toml", "/mnt/runs", vars(_request(tmp_path).profile), {"name": "tiny", "uid": "1"}
    )
    assert state_of(made).endswith("pip install 'cotuning_tune[k8s]'")


def test_a_wrong_token_is_not_told(kube: Kube, tmp_path: Path) -> None:
    """401 says what to renew; the token is in no message."""
    _config(tmp_path, kube, "wrong-token")
    with pytest.raises(UserError, match=r"does not know who you are \(401\): renew the credentials") as caught:
        _launched(tmp_path)
    assert "wrong-token" not in str(caught.value)
    _config(tmp_path, kube, "wrong\ntoken")
    with pytest.raises(UserError, match="characters that a token cannot have"):
        _launched(tmp_path)
    _config(tmp_path, kube, f"{TOKEN}\n")
    _launched(tmp_path)


def test_a_redirect_is_not_followed(kube: Kube, tmp_path: Path) -> None:
    """It would carry the token to another host."""
    kube.errors = [(302, "elsewhere")]
    with pytest.raises(UserError, match=r"refuses it \(302\): elsewhere$"):
        _launched(tmp_path)
    assert len(kube.asked) == 1


def _lines(*texts: str, second: int = 0) -> list[str]:
    return [f"2026-01-01T00:00:{second:02d}.{100 + number}Z {text}\n" for number, text in enumerate(texts)]


def test_logs_are_followed_over_retries_and_cuts(kube: Kube, tmp_path: Path) -> None:
    """Every line once, although a log is cut in the middle; after a retry the next pod's."""
    made = _launched(tmp_path)
    labels = {"cotuning-tune/run": made.facts["name"], "cotuning-tune/part": "driver"}
    kube.job()["status"] = {"jobDeploymentStatus": "Running"}
    kube.add_pod("one", _lines("first", "gr\rü\u2028ße", "third", "fourth"), "2026-01-01T00:00:00Z", **labels)
    kube.cut_logs = 1
    found = []
    for piece in K8sBackend().log(made, follow=True):
        found.append(piece)
        if piece == "fourth\n":
            kube.add_pod("two", _lines("again", second=9), "2026-01-01T00:00:09Z", **labels)
            kube.job()["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
    assert found == ["first\n", "gr\rü\u2028ße\n", "third\n", "fourth\n", "again\n"]
    assert list(K8sBackend().log(made, follow=False)) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": ""}, "the profile's image is missing"),
        ({"claim": ""}, "is not a folder that a pod sees"),
        ({"mount": "/elsewhere"}, "does not lie in /elsewhere"),
        ({"claim_size": "1Gi"}, "a storage_class that offers ReadWriteMany"),
        ({"workers": 0}, "must be at least 1"),
        ({"node_selector": "spot"}, "'spot' is not KEY=VALUE"),
        ({"ray_version": "2.9"}, "2.52 or newer"),
        ({"retries": -1}, "backoffLimit must be a whole number"),
    ],
)
def test_a_wrong_profile_is_refused_before_anything_is_sent(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Also with --dry-run; nobody is asked."""
    with pytest.raises(UserError, match=said):
        K8sBackend().check(_request(tmp_path, **change))


def test_what_would_pass_a_shell_is_refused(tmp_path: Path) -> None:
    """The entry point goes through two shells: no dollar, no blank, no quote."""
    for field, text in (("storage", "/mnt/runs/a b"), ("name", "$(id)")):
        with pytest.raises(UserError, match=f"{field} '.*' must not hold"):
            K8sBackend().check(replace(_request(tmp_path), **{field: text}))


def test_a_large_experiment_file_is_refused(tmp_path: Path) -> None:
    """A ConfigMap holds a mebibyte."""
    path = tmp_path / "large.toml"
    path.write_text("#" * 1_000_001)
    with pytest.raises(UserError, match="a ConfigMap holds no more"):
        K8sBackend().check(replace(_request(tmp_path), experiment=path))


def test_own_templates_are_checked_too(tmp_path: Path) -> None:
    """A user's template with a mistake is refused with its line; one without NetworkPolicy is refused."""
    folder = tmp_path / "k8s"
    folder.mkdir()
    text = (launch_files() / "k8s" / "rayjob.yaml").read_text()
    (folder / "rayjob.yaml").write_text(text.replace("minReplicas: @{workers}", "minReplicas: 9"))
    with pytest.raises(UserError, match=r"rayjob.yaml line \d+: minReplicas 9 is more than maxReplicas 2"):
        K8sBackend().check(_request(tmp_path, templates=str(tmp_path)))
    (folder / "rayjob.yaml").write_text(text)
    objects = (launch_files() / "k8s" / "objects.yaml").read_text()
    (folder / "objects.yaml").write_text(objects[: objects.index("---")])
    with pytest.raises(UserError, match="make no NetworkPolicy"):
        K8sBackend().check(_request(tmp_path, templates=str(tmp_path)))


def test_a_dry_run_asks_nobody(tmp_path: Path, call: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and kubectl's commands are shown without a kubeconfig; the password is not."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path))
    request = ("--set", "image=a/b:1", "--optuna-storage", URL, "--dry-run")
    code, out, err = call("launch", "k8s", ROOT / "search_spaces" / "tiny.toml", "--storage", "s3://b/runs", *request)
    assert (code, err) == (0, [])
    assert "kind: RayJob" in out
    assert not [line for line in out if "pass-word" in line]
    assert list(tmp_path.iterdir()) == []


def test_the_image_is_made_of_what_is_here() -> None:
    """Every file that the Containerfile copies is in the project; its Python is that of requirements.lock."""
    lines = (launch_files() / "k8s" / "Containerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert "requirements.lock" in copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    (version,) = [line.partition("python:")[2].partition("-")[0] for line in lines if line.startswith("FROM ")]
    assert f"--python-version {version} " in (ROOT / "requirements.lock").read_text()


def test_the_profile_file_names_every_key() -> None:
    """``launch/profiles/k8s.toml`` holds each key with its default and meaning, as a comment."""
    text = (launch_files() / "profiles" / "k8s.toml").read_text()
    shown = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    assert shown == profile_text(K8sProfile).splitlines()
