"""The guides of the backends ``k8s`` and ``cloud``, followed word by word against what stands in for the clusters."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.guides import ROOT, commands_of
from tests.launch.kube_server import Kube
from tests.launch.test_cloud import ray  # noqa: F401 - a fixture
from tests.launch.test_k8s import kube  # noqa: F401 - a fixture

CLI = Callable[..., tuple[int, list[str], list[str]]]
VERBS = ["status", "logs", "stop", "resume", "logs", "status"]


def _profile(guide: str, path: Path) -> str:
    """The profile that the guide shows, as a file."""
    (text,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / guide).read_text(), flags=re.MULTILINE | re.DOTALL)
    path.write_text(text)
    return text


def _steps(guide: str, profile: Path) -> list[list[str]]:
    places = {
        "search_spaces/demo.toml": str(ROOT / "search_spaces" / "demo.toml"),
        "my-cluster.toml": str(profile),
        "my-cloud.toml": str(profile),
    }
    steps = commands_of(guide, places)
    assert [words[1] for words in steps[2:]] == VERBS
    return steps


def test_the_guide_of_k8s_works(kube: Kube, tmp_path: Path, call: CLI) -> None:  # noqa: F811
    """Shown, launched, running, followed, stopped, resumed, done."""
    _profile("launch-k8s.md", tmp_path / "profile")
    shown = []
    for number, words in enumerate(_steps("launch-k8s.md", tmp_path / "profile")):
        if number in (2, 6):
            labels = {"cotuning-tune/run": kube.job()["metadata"]["name"], "cotuning-tune/part": "driver"}
            kube.add_pod(f"{number}", ["2026-01-01T00:00:00.1Z search: 1/8\n"], "2026-01-01T00:00:00Z", **labels)
            kube.job()["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
        if number == 6:
            kube.job()["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
        code, out, err = call(*words)
        assert (code, err) == (0, []), words
        shown.append("\n".join(out))
    assert "kind: RayJob" in shown[0]
    assert shown[1].startswith("launched 'demo' by k8s; the run is /mnt/runs/demo")
    assert shown[2].startswith("demo: running (k8s")
    assert shown[3] == shown[6] == "search: 1/8"
    assert shown[4] == "demo: stopped cleanly; nothing is lost"
    assert shown[5].startswith("launched 'demo' again by k8s (attempt 2)")
    assert shown[7].startswith("demo: done (k8s")


def test_the_guide_of_cloud_works(
    ray: Path,  # noqa: F811
    tmp_path: Path,
    call: CLI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same; the machines are taken down by the head at the end."""
    text = _profile("launch-cloud.md", tmp_path / "profile")
    (wheel,) = re.findall(r'package = "(.*)"', text)
    (tmp_path / wheel).parent.mkdir()
    (tmp_path / wheel).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    shown = []
    for number, words in enumerate(_steps("launch-cloud.md", tmp_path / "profile")):
        if number in (2, 6):
            deadline = time.monotonic() + 30
            while "speaks" not in (ray / "head" / "cotuning-tune" / "log").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        if number == 6:
            (ray / "head" / "end").write_text("0")
        code, out, err = call(*words)
        assert (code, err) == (0, []), words
        shown.append("\n".join(out))
    assert "ray up -y" in shown[0]
    assert shown[1].startswith("launched 'demo' by cloud; the run is s3://bucket/runs/demo")
    assert shown[2].startswith("demo: running (cloud")
    assert "the driver speaks" in shown[3]
    assert shown[4] == "demo: stopped cleanly, the machines are down; nothing is lost"
    assert shown[5].startswith("launched 'demo' again by cloud (attempt 2)")
    assert "the driver speaks" in shown[6]
    assert shown[7].startswith("demo: done (cloud")
