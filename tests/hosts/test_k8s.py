"""The rendered manifest on hosts in namespaces, with as little of KubeRay's operator as it takes to run it."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from cotuning_tune.launch import Request
from cotuning_tune.launch.backends.k8s import K8sBackend, K8sProfile
from cotuning_tune.launch.yaml_text import documents
from tests.hosts.bed import Host, bed
from tests.search.kills import trials_of

EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune", "l2_sp"]
backbone = "tiny_cnn"
trials = 4
selection = "max"
seeds = [0]
[task]
size = 32
resize = 32
[data.synthetic]
images = 150
[resources]
state_every = 0
[train]
epochs = 4
batch_size = 8
"""

# starts a container again that has ended: a busy node may be too slow for Ray's patience of 30 s
KUBELET = 'set -m; while :; do "$@" & wait $!; kill -KILL -- "-$!" 2>/dev/null; done'


@dataclass(frozen=True)
class Operator:
    """What the operator and the kubelet know: the RayJob, the Secret, and what stands for each volume."""

    job: dict[str, Any]
    secret: dict[str, str]
    experiment: str
    folder: Path

    @property
    def cluster(self) -> dict[str, Any]:
        return dict(self.job["spec"]["rayClusterSpec"])

    def container(self, group: Mapping[str, Any]) -> dict[str, Any]:
        return dict(group["template"]["spec"]["containers"][0])

    def environment(self, group: Mapping[str, Any]) -> dict[str, str]:
        """The container's variables, and those that the operator adds where authOptions.mode is token."""
        found = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.secret["auth_token"]}
        assert self.cluster["authOptions"]["mode"] == "token"
        for item in self.container(group)["env"]:
            if "value" in item:
                found[item["name"]] = item["value"]
            elif (key := item["valueFrom"]["secretKeyRef"]["key"]) in self.secret:
                found[item["name"]] = self.secret[key]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**found, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def mount(self, host: Host, group: Mapping[str, Any]) -> None:
        """Bind the volumes where the container wants them."""
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        for mount in self.container(group)["volumeMounts"]:
            claimed = "persistentVolumeClaim" in volumes[mount["name"]]
            source = self.folder / (mount["name"] if claimed else f"{host.name}-{mount['name']}")
            source.mkdir(exist_ok=True)
            if "configMap" in volumes[mount["name"]]:
                (source / "experiment.toml").write_text(self.experiment)
            host.run(["mkdir", "-p", mount["mountPath"]])
            host.run(["mount", "--bind", source, mount["mountPath"]])

    def start(self, host: Host, group: Mapping[str, Any], *more: str) -> subprocess.Popen[Any]:
        """A Ray node as KubeRay starts it: rayStartParams, and the container's limits."""
        self.mount(host, group)
        limits = self.container(group)["resources"]["limits"]
        parameters = {"num-cpus": limits["cpu"], **group["rayStartParams"]}
        words = [f"--{key}={value}" for key, value in parameters.items()]
        words += [f"--node-ip-address={host.address}", "--object-store-memory=80000000", *more]
        return self._run(host, ["bash", "-c", KUBELET, "kubelet", "ray", "start", "--block", *words], group, host.name)

    def driver(self, host: Host) -> subprocess.Popen[Any]:
        """The entry point as the Jobs API runs it: by a shell, with the head's variables."""
        words = ["sh", "-c", self.job["spec"]["entrypoint"]]
        return self._run(host, words, self.cluster["headGroupSpec"], "driver")

    def _run(self, host: Host, words: list[str], group: Mapping[str, Any], log: str) -> subprocess.Popen[Any]:
        with (self.folder / f"{log}.log").open("ab") as output:
            return host.popen(words, env=self.environment(group), stdout=output, stderr=output)


@contextmanager
def made_cluster(operator: Operator) -> Iterator[tuple[Host, subprocess.Popen[Any]]]:
    """The cluster of the manifest on new hosts, with its driver; gone afterwards, whatever runs there."""
    head, (group,) = operator.cluster["headGroupSpec"], operator.cluster["workerGroupSpecs"]
    with bed(1 + group["replicas"], own=["/mnt"]) as (first, *others):
        nodes = [operator.start(first, head, "--head", "--port=6379")]
        deadline = time.monotonic() + 60
        while first.run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6379"], check=False).returncode:
            assert time.monotonic() < deadline, (operator.folder / "n0.log").read_text()
            time.sleep(0.2)
        nodes += [operator.start(host, group, f"--address={first.address}:6379") for host in others]
        driver = operator.driver(first)
        try:
            yield first, driver
        finally:
            for host in (first, *others):
                os.kill(host.pid, signal.SIGKILL)  # and with its PID 1 all that runs there
            for process in (*nodes, driver):
                process.wait(60)


def _made(tmp_path: Path) -> Operator:
    """The manifest as the backend renders it, for two workers of one core."""
    path = tmp_path / "small.toml"
    path.write_text(EXPERIMENT)
    profile = K8sProfile(image="a/b:1", claim="runs", workers=2, cpus=1, gpus=0)
    request = Request(path, "small", "/mnt/runs", "", profile, tmp_path / "launch")
    K8sBackend().check(request)
    items = [item.value for text in K8sBackend().plan(request).files.values() for item in documents(text, "manifest")]
    (job,) = [item for item in items if item["kind"] == "RayJob"]
    (config,) = [item for item in items if item["kind"] == "ConfigMap"]
    secret = {"auth_token": secrets.token_hex(32)}
    return Operator(job, secret, config["data"]["experiment.toml"], tmp_path)


def _wait(condition: Callable[[], object], driver: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert driver.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_a_cluster_is_deleted_killed_and_made_again(tmp_path: Path) -> None:
    """The pod's preStop ends the driver with 85; killed whole, a retry goes on; at the end exactly the asked trials."""
    operator, log = _made(tmp_path), tmp_path / "driver.log"
    run = tmp_path / "runs" / "small"

    def epochs() -> int:
        return sum(path.read_text().count("\n") for path in run.glob("studies/*/trials/*/metrics.jsonl"))

    head = operator.cluster["headGroupSpec"]
    (stop,) = [operator.container(head)["lifecycle"]["preStop"]["exec"]["command"]]
    with made_cluster(operator) as (first, driver):
        _wait(lambda: epochs() >= 2, driver, log)
        first.run(stop, env=operator.environment(head))
        assert driver.wait(20) == 85, log.read_text()
    before = epochs()
    with made_cluster(operator) as (_, driver):
        _wait(lambda: epochs() > before + 3, driver, log)
    assert driver.returncode not in (0, 85)
    limit = operator.job["spec"]["backoffLimit"]
    assert limit > 0
    with made_cluster(operator) as (_, driver):
        assert driver.wait(400) == 0, log.read_text()
    found = trials_of(run)
    assert len(found) == 2
    for trials in found.values():
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert len(list(run.glob("studies/*/trials/*/result.json"))) == 8
    assert "3 node(s) checked" in log.read_text()
    assert operator.secret["auth_token"] not in log.read_text()
