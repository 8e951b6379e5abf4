"""A Kubernetes cluster with KubeRay's operator, as a RayJob."""

import base64
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.secrets import Secret
from cotuning_tune.hyper import hyper
from cotuning_tune.launch.backend import HELD, NOTHING_RUNS, Backend, Plan, Request, Unsure
from cotuning_tune.launch.kube_api import POLL_S, TRIES, Api, Refused
from cotuning_tune.launch.kube_config import open_server
from cotuning_tune.launch.kube_rules import check_object
from cotuning_tune.launch.record import Launch, attempt_name, write_private
from cotuning_tune.launch.templates import render
from cotuning_tune.launch.yaml_text import Document, block, documents, quoted

STOP_S = 180.0
EXPERIMENT_FOLDER = "/mnt/experiment"
MOST_BYTES = 1_000_000
OWN_RUN = "cotuning-tune/run"
OWNERS = ("RayJob", "PersistentVolumeClaim")  # all else goes with the RayJob
STATES = {"": "queued", "Initializing": "queued", "Waiting": "queued", "Suspending": "queued", "Suspended": "queued"}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@dataclass(frozen=True)
class K8sProfile:
    """What the cluster offers and what the run takes of it."""

    image: str = hyper("", doc="image with Ray and cotuning_tune, REGISTRY/NAME:TAG (launch/k8s/Containerfile)")
    pull_secret: str = hyper("", doc="Secret that pulls the image, where it needs one")
    ray_version: str = hyper("2.60.0", doc="version of Ray in the image")
    kubeconfig: str = hyper("", doc="as kubectl's --kubeconfig; '': KUBECONFIG, ~/.kube/config or the pod's account")
    context: str = hyper("", doc="context of the kubeconfig; '': its current one")
    namespace: str = hyper("default", doc="namespace of all objects")
    operator_namespace: str = hyper("kuberay", doc="namespace of KubeRay's operator: it alone reaches the head's 8265")
    workers: int = hyper(2, doc="worker pods; the trials run there")
    cpus: int = hyper(8, doc="cores of a worker")
    memory: str = hyper("32Gi", doc="memory of a worker; a third of it is for Ray's objects")
    gpus: int = hyper(1, doc="GPUs of a worker")
    head_cpus: int = hyper(2, doc="cores of the head, where the driver runs")
    head_memory: str = hyper("8Gi", doc="memory of the head")
    node_selector: str = hyper("", doc="labels that the nodes must have, KEY=VALUE,KEY=VALUE")
    claim: str = hyper("", doc="PersistentVolumeClaim (ReadWriteMany) that holds the runs; empty with s3://")
    mount: str = hyper("/mnt/runs", doc="where the claim is mounted; --storage is this or a folder in it")
    claim_size: str = hyper("", doc="make the claim with this size, as 100Gi; '': it is there")
    storage_class: str = hyper("", doc="storage class of a claim to be made; it must offer ReadWriteMany")
    s3_secret: str = hyper("", doc="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; '': the nodes' role")
    s3_endpoint: str = hyper("", doc="address of an S3 server that is not Amazon's")
    queue: str = hyper("", doc="Kueue's LocalQueue; '': starts at once")
    retries: int = hyper(3, doc="how many times a failed cluster is made again")
    keep_s: int = hyper(60, doc="how long the pods stay after the end, in seconds")
    deadline_s: int = hyper(604800, doc="ends the RayJob after so many seconds, retries included")
    templates: str = hyper("", doc="folder with own k8s/rayjob.yaml, k8s/objects.yaml, k8s/claim.yaml")


def _selector(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if bad := [key for key, sign, _ in pairs if not (key and sign)]:
        raise UserError(f"node_selector: '{bad[0]}' is not KEY=VALUE")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _volumes(profile: K8sProfile, name: str) -> dict[str, list[dict[str, Any]]]:
    """What is mounted: on every node the cache and the runs, on the head the experiment too."""
    volumes: list[dict[str, Any]] = [{"name": "cache", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "cache", "mountPath": "/mnt/cache"}]
    if profile.claim:
        volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": profile.claim}})
        mounts.append({"name": "runs", "mountPath": profile.mount})
    asked: dict[str, Any] = {"name": "experiment", "mountPath": EXPERIMENT_FOLDER, "readOnly": True}
    return {
        "volumes": volumes,
        "mounts": mounts,
        "head_volumes": [*volumes, {"name": "experiment", "configMap": {"name": name}}],
        "head_mounts": [*mounts, asked],
    }


def _environment(profile: K8sProfile, secret: str) -> dict[str, list[dict[str, Any]]]:
    plain = {"RAY_USAGE_STATS_ENABLED": "0", "COTUNING_TUNE_CACHE": "/mnt/cache"}
    if profile.s3_endpoint:
        plain["AWS_ENDPOINT_URL"] = profile.s3_endpoint
    env: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in plain.items()]
    studies = {"secretKeyRef": {"name": secret, "key": "optuna-storage", "optional": True}}
    head: list[dict[str, Any]] = [
        {"name": "COTUNING_TUNE_NODES_S", "value": "900"},  # an image may have to be pulled
        {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "120"},  # Ray would kill the driver 3 s after SIGTERM
        {"name": "COTUNING_TUNE_OPTUNA_STORAGE", "valueFrom": studies},
    ]
    env_from = [{"secretRef": {"name": profile.s3_secret}}] if profile.s3_secret else []
    return {"env": env, "head_env": [*env, *head], "env_from": env_from}


def _resources(profile: K8sProfile) -> dict[str, Any]:
    gpus = {"nvidia.com/gpu": str(profile.gpus)} if profile.gpus else {}
    tolerated = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if profile.gpus else []
    return {
        "worker_resources": {"cpu": str(profile.cpus), "memory": profile.memory, **gpus},
        "head_cpus": str(profile.head_cpus),
        "tolerations": tolerated,
    }


def _values(request: Request) -> dict[str, str]:
    """What goes into the templates' places, each as YAML."""
    profile: K8sProfile = request.profile
    name = request.attempt_name
    entry = request.entry_on_head(f"{EXPERIMENT_FOLDER}/experiment.toml", profile.workers)
    queue = {"kueue.x-k8s.io/queue-name": profile.queue} if profile.queue else {}
    values = {
        **{key: value for key, value in vars(profile).items() if key != "gpus"},
        **_resources(profile),
        **_volumes(profile, name),
        **_environment(profile, f"{name}-secret"),
        "name": name,
        "run": request.name,
        "storage": request.storage,
        "secret": f"{name}-secret",
        "entrypoint": shlex.join(["exec", *entry]),
        "suspend": bool(profile.queue),
        "job_labels": {OWN_RUN: name, **queue},
        "pull_secrets": [{"name": profile.pull_secret}] if profile.pull_secret else [],
        "node_selector": _selector(profile.node_selector),
        "pod_security": POD_SECURITY,
        "container_security": CONTAINER_SECURITY,
    }
    experiment = block(request.experiment.read_text(encoding="utf-8"), 2)
    return {**{key: quoted(value) for key, value in values.items()}, "experiment": experiment}


def _check_storage(request: Request) -> None:
    profile: K8sProfile = request.profile
    if request.storage.startswith("s3://"):
        return
    if not profile.claim:
        raise UserError(
            f"{request.storage} is not a folder that a pod sees: set the profile's claim (a PersistentVolumeClaim),"
            " or name s3://BUCKET/PREFIX (--storage)"
        )
    if not PurePosixPath(request.storage).is_relative_to(profile.mount):
        raise UserError(f"{request.storage} does not lie in {profile.mount}, where the claim is mounted (--storage)")


class K8sBackend(Backend):
    """A RayJob: the operator makes the cluster, submits the entry point, and makes it again where it fails."""

    Profile = K8sProfile

    def check(self, request: Request) -> None:
        profile: K8sProfile = request.profile
        if not profile.image:
            raise UserError("the profile's image is missing: launch/k8s/Containerfile makes one")
        _check_storage(request)
        if bad := re.search(r"[^\w@%+=:,./-]", request.storage, re.ASCII):  # it passes two shells
            raise UserError(f"the storage '{request.storage}' must not hold {bad[0]!r}")
        if profile.claim_size and not (profile.claim and profile.storage_class):
            raise UserError("claim_size makes a claim: name it (claim) and a storage_class that offers ReadWriteMany")
        if request.experiment.stat().st_size > MOST_BYTES:
            raise UserError(f"{request.experiment} has more than {MOST_BYTES} bytes: a ConfigMap holds no more")
        if min(profile.workers, profile.cpus, profile.head_cpus) < 1 or profile.gpus < 0:
            raise UserError("workers, cpus and head_cpus must be at least 1, gpus at least 0")
        _parsed(self.plan(request))

    def plan(self, request: Request) -> Plan:
        names = ["objects.yaml", "rayjob.yaml"]
        if request.profile.claim_size:
            names.insert(0, "claim.yaml")
        values = _values(request)
        files = {name: render(f"k8s/{name}", values, request.profile.templates) for name in names}
        return Plan(files, _commands(request, names))

    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        api = _api(request.profile)
        items = _parsed(plan)
        job = next(item for item in items if item["kind"] == "RayJob")
        kept = [item for item in items if item["kind"] == "PersistentVolumeClaim"]
        write_private(request.folder / "token", secrets.token_hex(32))
        secret = _secret(request.attempt_name, request.profile.namespace, request.folder, request.optuna_storage)
        owned = [item for item in items if item["kind"] not in OWNERS] + [secret]
        _clear(api, attempt_name(request.id, request.attempt - 1))
        _rehearse(api, job, [*kept, *owned])
        with _or_unsure():
            for item in (*kept, *owned):
                api.apply(item)
            return _own(api, owned, api.create(job))

    def find(self, launch: Launch) -> dict[str, Any] | None:
        """What belongs to a RayJob that is found is made its own, where the start did not come so far."""
        api = _api_of(launch)
        if (made := api.find("RayJob", launch.attempt_name)) is None:
            return None
        files = {name: (launch.folder / name).read_text(encoding="utf-8") for name in ("objects.yaml", "rayjob.yaml")}
        owned = [item for item in _parsed(Plan(files, [])) if item["kind"] not in OWNERS]
        namespace = launch.profile["namespace"]
        secret = _secret(launch.attempt_name, namespace, launch.folder, launch.optuna_storage)
        return _own(api, [*owned, secret], made)

    def state(self, launch: Launch) -> str:
        try:
            found = _api_of(launch, tries=2).find("RayJob", launch.facts["name"])
        except UserError as problem:  # a list of launches shows the others all the same
            return f"unknown: {problem}"
        if found is None or found["metadata"].get("uid") != launch.facts["uid"]:
            return "gone: the RayJob has been deleted; resume makes it again"
        return job_state(found)

    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        """The submitter's output, one pod after the other where the cluster was made again."""
        import time

        api, seen = _api_of(launch), dict[str, str]()
        labels = {OWN_RUN: launch.facts["name"], "cotuning-tune/part": "driver"}
        while True:
            last = not (follow and self.state(launch).startswith(("queued", "running", "unknown")))
            for pod in api.pods(labels):
                if pod.get("status", {}).get("phase") not in (None, "Pending", "Unknown"):
                    yield from _new_lines(api, pod["metadata"]["name"], follow and not last, seen)
            if last:
                return
            time.sleep(POLL_S)

    def stop(self, launch: Launch) -> str:
        api = _api_of(launch)
        if api.find("RayJob", launch.facts["name"]) is None:
            return NOTHING_RUNS
        if not api.delete("RayJob", launch.facts["name"], STOP_S):
            return f"the RayJob is being deleted, which takes more than {STOP_S:.0f} s; nothing is lost"
        return "stopped cleanly; nothing is lost"


def _commands(request: Request, names: list[str]) -> list[list[str]]:
    """What kubectl would be asked for; the Secret's values stay out of sight."""
    profile: K8sProfile = request.profile
    config = ["--kubeconfig", profile.kubeconfig] if profile.kubeconfig else []
    context = ["--context", profile.context] if profile.context else []
    kubectl = ["kubectl", *config, *context, "--namespace", profile.namespace]
    folder = request.folder
    studies = [f"--from-file=optuna-storage={folder / 'optuna_storage.url'}"] if request.optuna_storage else []
    token = f"--from-file=auth_token={folder / 'token'}"
    secret = [*kubectl, "create", "secret", "generic", f"{request.attempt_name}-secret", token, *studies]
    files = [word for name in names for word in ("-f", str(folder / name))]
    return [secret, [*kubectl, "apply", "--server-side", *files]]


def _secret(name: str, namespace: str, folder: Path, studies: Secret) -> dict[str, Any]:
    """Ray's token, new at each launch, and the URL of the studies; they stand in files of the launch's folder too."""
    values = {"auth_token": (folder / "token").read_text(encoding="utf-8")}
    if studies:
        values["optuna-storage"] = studies.reveal()
    labels = {OWN_RUN: name}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-secret", "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _parsed(plan: Plan) -> list[dict[str, Any]]:
    """The plan's objects, checked by the operator's rules and ours. Raises UserError with file and line."""
    found: list[Document] = [item for name, text in plan.files.items() for item in documents(text, name)]
    for item in found:
        check_object(item)
    if sum(item.value["kind"] == "RayJob" for item in found) != 1:
        raise UserError("the templates must make one RayJob")
    if not any(item.value["kind"] == "NetworkPolicy" for item in found):
        raise UserError("the templates make no NetworkPolicy: anything in the Kubernetes cluster could reach the head")
    return [item.value for item in found]


def _api(profile: K8sProfile) -> Api:
    return Api(open_server(profile.kubeconfig, profile.context), profile.namespace)


def _api_of(launch: Launch, tries: int = TRIES) -> Api:
    profile: Mapping[str, Any] = launch.profile
    return Api(open_server(profile["kubeconfig"], profile["context"]), profile["namespace"], tries)


@contextmanager
def _or_unsure() -> Iterator[None]:
    """While inside, objects are made. Raises Unsure where the server's answer is lost."""
    try:
        yield
    except UserError as problem:
        if isinstance(problem, Refused) and problem.code < 500:
            raise
        raise Unsure(f"{problem}; whether there is a RayJob is not known yet: launch status looks for it") from None


def _own(api: Api, owned: list[dict[str, Any]], made: Mapping[str, Any]) -> dict[str, Any]:
    """Let the RayJob have what belongs to it, which goes with it then; what finds it again."""
    facts = {key: made["metadata"][key] for key in ("name", "uid")}
    owner = {"apiVersion": made["apiVersion"], "kind": "RayJob", **facts}
    for item in owned:
        api.apply({**item, "metadata": {**item["metadata"], "ownerReferences": [owner]}})
    return facts


def _clear(api: Api, name: str) -> None:
    """Delete the ended RayJob of the attempt before. Raises UserError for one that runs."""
    found = api.find("RayJob", name)
    if found is None:
        return
    if (state := job_state(found)).startswith(("queued", "running")):
        raise UserError(f"the RayJob '{name}' in {api.namespace} is {state}: stop it first")
    if not api.delete("RayJob", name, STOP_S):
        raise UserError(f"the old RayJob '{name}' is not deleted within {STOP_S:.0f} s: try again later")


def _rehearse(api: Api, job: Mapping[str, Any], others: list[dict[str, Any]]) -> None:
    """What the server would refuse, to the last mistyped field, is reported before anything is made."""
    try:
        api.rehearse(job)
    except Refused as problem:
        if problem.code == 404 and "namespace" not in str(problem):
            raise UserError(f"KubeRay is not installed on {api.server}: it knows no RayJob") from None
        raise
    for item in others:
        api.apply(item, rehearsal=True)


def job_state(job: Mapping[str, Any]) -> str:
    """What a RayJob's status says, in the words of a backend's ``state``."""
    status = job.get("status") or {}
    said = " ".join(str(status.get("message") or status.get("reason") or "").split())
    deployment, result = str(status.get("jobDeploymentStatus") or ""), str(status.get("jobStatus") or "")
    if job["metadata"].get("deletionTimestamp"):
        return "running: it is being stopped"
    if deployment in STATES:
        return STATES[deployment]
    if deployment in ("Running", "Retrying"):
        return "running" if deployment == "Running" else "running: the cluster is being made again"
    if result == "SUCCEEDED":
        return "done"
    ended = partial("{}: {}".format)
    if re.search(r"exit code 75\b", said):
        return HELD
    if result == "STOPPED" or re.search(r"exit code 85\b", said):
        return ended("unfinished", "resume continues")
    return ended("failed", said) if said else "failed"


def _new_lines(api: Api, pod: str, follow: bool, seen: dict[str, str]) -> Iterator[str]:
    """The pod's lines after those that have been seen; keeps in ``seen`` how far it came."""
    for when, text in api.log(pod, follow, seen.get(pod, "")):
        if _instant(when) > _instant(seen.get(pod, "")):
            seen[pod] = when
            yield text


def _instant(when: str) -> str:
    """A time of one clock as text that sorts: the server asks by whole seconds, and leaves out last zeros."""
    found = re.match(r"[\d-]+T[\d:.]+", when)
    return found[0] if found else ""
