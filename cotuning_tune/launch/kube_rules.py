"""What a cluster would take of a manifest and never run, or what would be unsafe, reported before anything is sent.

The operator's rules are those of KubeRay 1.7 (ray-operator/controllers/ray/utils/validation.go); the schema of
its resource lets these mistakes pass, and the RayJob then waits for ever. The rules of safety are this project's.
Mistyped fields and values of another type are found by the server, which is asked to check all before it makes any.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from cotuning_tune.base.errors import unknown
from cotuning_tune.launch.kube_api import PLURALS
from cotuning_tune.launch.yaml_text import Document, Problem, Where

MOST_CHARACTERS = 47  # of a RayJob's name
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SECRET_NAMES = re.compile(r"TOKEN$|PASSWORD|SECRET|STUDIES$|ACCESS_KEY")
START_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
KINDS = PLURALS.keys() - {"Pod"}


def check_object(document: Document) -> None:
    """Refuse the first mistake of an object with its line. Raises UserError."""
    value = document.value
    if not isinstance(value, Mapping) or value.get("kind") not in KINDS:
        kind = str(value.get("kind")) if isinstance(value, Mapping) else type(value).__name__
        document.refuse([(("kind",), str(unknown("kind of object", kind, KINDS)))])
    document.refuse(chain(_shape(value), _rayjob(value), _network(value)))


def _must_be(kind: type, where: Where, value: Any) -> Iterator[Problem]:
    if not isinstance(value, kind):
        yield where, f"'{where[-1]}' must be a {'list' if kind is list else 'mapping'}, not {value!r}"


def _shape(value: Mapping[str, Any]) -> Iterator[Problem]:
    """As much as the other rules need."""
    if not isinstance(value.get("metadata"), Mapping) or not value["metadata"].get("name"):
        yield ("metadata",), "metadata.name is missing"
    yield from _must_be(dict, ("spec",), value.get("spec") or {})
    if value["kind"] != "RayJob":
        return
    at: Where = ("spec", "rayClusterSpec")
    cluster: Any = (value.get("spec") or {}).get("rayClusterSpec")
    yield from _must_be(dict, at, cluster)
    yield from _must_be(dict, (*at, "headGroupSpec"), cluster.get("headGroupSpec"))
    yield from _must_be(list, (*at, "workerGroupSpecs"), cluster.get("workerGroupSpecs"))
    for where, group in _groups(value["spec"]):
        yield from _must_be(dict, where, group)
    for where, template in _templates(value["spec"]):
        yield from _containers(where, template)


def _templates(spec: Mapping[str, Any]) -> Iterator[tuple[Where, Any]]:
    """Every pod template with the path to it, the head's first."""
    for where, group in _groups(spec):
        yield (*where, "template"), group.get("template")
    if "submitterPodTemplate" in spec:
        yield ("spec", "submitterPodTemplate"), spec["submitterPodTemplate"]


def _groups(spec: Mapping[str, Any]) -> Iterator[tuple[Where, Any]]:
    cluster = spec["rayClusterSpec"]
    yield ("spec", "rayClusterSpec", "headGroupSpec"), cluster["headGroupSpec"]
    for number, group in enumerate(cluster["workerGroupSpecs"]):
        yield ("spec", "rayClusterSpec", "workerGroupSpecs", number), group


def _containers(where: Where, template: Any) -> Iterator[Problem]:
    pod = template.get("spec") if isinstance(template, Mapping) else None
    containers = pod.get("containers") if isinstance(pod, Mapping) else None
    if not containers or not isinstance(containers, list):
        yield where, "a pod template needs spec.containers"
        return
    for number, container in enumerate(containers):
        at = (*where, "spec", "containers", number)
        yield from _must_be(dict, at, container)
        if not container.get("image"):
            yield at, "a container needs an image"
        yield from _plain_secrets(at, container)


def _plain_secrets(where: Where, container: Mapping[str, Any]) -> Iterator[Problem]:
    for number, item in enumerate(container.get("env") or []):
        if "value" in item and SECRET_NAMES.search(str(item.get("name"))):
            at = (*where, "env", number)
            yield at, f"the value of {item['name']} stands in the manifest: take it from a Secret (secretKeyRef)"


def _rayjob(value: Mapping[str, Any]) -> Iterator[Problem]:
    if value["kind"] != "RayJob":
        return
    spec = value["spec"]
    yield from _name(str(value["metadata"]["name"]))
    yield from _ending(spec)
    yield from _retries(spec)
    yield from _cluster(spec["rayClusterSpec"])
    for where, group in _groups(spec):
        yield from _group(where, group, spec)
    for where, template in _templates(spec):
        yield from _pod(where, template["spec"])


def _name(name: str) -> Iterator[Problem]:
    at: Where = ("metadata", "name")
    if len(name) > MOST_CHARACTERS:
        yield at, f"'{name}' has {len(name)} characters, {MOST_CHARACTERS} are possible: choose another (--name)"
    if not DNS_LABEL.fullmatch(name):
        yield at, f"'{name}' is not a name for a RayJob: a-z, 0-9 and '-' are possible, a letter first"


def _ending(spec: Mapping[str, Any]) -> Iterator[Problem]:
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield ("spec", "suspend"), "suspend needs shutdownAfterJobFinishes: true"
    if spec.get("ttlSecondsAfterFinished", 0) and not spec.get("shutdownAfterJobFinishes"):
        yield ("spec", "ttlSecondsAfterFinished"), "ttlSecondsAfterFinished needs shutdownAfterJobFinishes: true"
    for key, least in (("ttlSecondsAfterFinished", 0), ("backoffLimit", 0), ("activeDeadlineSeconds", 1)):
        if not isinstance(spec.get(key, least), int) or spec.get(key, least) < least:
            yield ("spec", key), f"{key} must be a whole number of at least {least}, not {spec[key]!r}"


def _retries(spec: Mapping[str, Any]) -> Iterator[Problem]:
    if spec.get("clusterSelector") and spec.get("backoffLimit", 0) > 0:
        yield ("spec", "clusterSelector"), "clusterSelector cannot be retried: backoffLimit must be 0"
    if spec.get("clusterSelector") and spec.get("suspend"):
        yield ("spec", "clusterSelector"), "clusterSelector cannot be suspended"
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield ("spec", "submissionMode"), "InteractiveMode cannot be retried: backoffLimit must be 0"
    if mode == "SidecarMode" and (spec.get("submitterPodTemplate") or spec.get("submitterConfig")):
        yield ("spec", "submissionMode"), "SidecarMode takes neither submitterPodTemplate nor submitterConfig"
    if not spec.get("entrypoint"):
        yield ("spec",), "entrypoint is missing"


def _cluster(cluster: Mapping[str, Any]) -> Iterator[Problem]:
    at: Where = ("spec", "rayClusterSpec")
    for key in ("networkPolicy", "tlsOptions"):
        if key in cluster:
            yield (*at, key), f"{key} is behind a gate that KubeRay 1.7 keeps shut: an object NetworkPolicy is possible"
    if (cluster.get("authOptions") or {}).get("mode") != "token":
        yield (
            (*at, "authOptions", "mode"),
            "authOptions.mode must be token: else whoever reaches the head runs code there",
        )
    version = re.match(r"(\d+)\.(\d+)", str(cluster.get("rayVersion", "")))
    if not version or (int(version[1]), int(version[2])) < (2, 52):
        yield (
            (*at, "rayVersion"),
            f"tokens need a rayVersion of 2.52 or newer, not {cluster.get('rayVersion')!r}",
        )
    head = cluster["headGroupSpec"]
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        key = "enableIngress" if head.get("enableIngress") else "serviceType"
        yield (
            (*at, "headGroupSpec", key),
            "the head must not be reached from outside: ClusterIP and no ingress",
        )


def _group(where: Where, group: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Problem]:
    start, name = group.get("rayStartParams") or {}, group.get("groupName", "head")
    if group.get("resources") and any(start.get(key) for key in START_RESOURCES):
        yield (*where, "resources"), f"resources of the group '{name}' stand in rayStartParams too: one place alone"
    if "labels" in start:
        yield (*where, "rayStartParams", "labels"), "labels go to the group's own field, not into rayStartParams"
    if name == "head" and start.get("num-cpus") == "0" and spec.get("entrypointNumCpus"):
        yield (
            ("spec", "entrypointNumCpus"),
            "the head has num-cpus '0': an entrypoint that asks for some never starts",
        )
    if name != "head":
        yield from _replicas(where, group)


def _replicas(where: Where, group: Mapping[str, Any]) -> Iterator[Problem]:
    low, high = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
    for key in ("replicas", "minReplicas", "maxReplicas"):
        if not isinstance(group.get(key, 0), int):
            yield (*where, key), f"{key} must be a whole number, not {group[key]!r}"
    if low > high:
        yield (*where, "minReplicas"), f"minReplicas {low} is more than maxReplicas {high}"
    elif not low <= group.get("replicas", low) <= high:
        yield (
            (*where, "replicas"),
            f"replicas {group['replicas']} is not from {low} (minReplicas) to {high} (maxReplicas)",
        )


def _pod(where: Where, pod: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield (*where, "spec", key), f"{key} takes the pod out of the NetworkPolicy and into the node's own space"
    volumes = {volume.get("name") for volume in pod.get("volumes") or []}
    for number, container in enumerate(pod["containers"]):
        for at, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in volumes:
                path = (*where, "spec", "containers", number, "volumeMounts", at)
                yield path, str(unknown("volume", str(mount.get("name")), map(str, volumes)))


def _network(value: Mapping[str, Any]) -> Iterator[Problem]:
    if value["kind"] != "NetworkPolicy":
        return
    spec = value.get("spec") or {}
    if not (spec.get("podSelector") or {}).get("matchLabels"):
        yield ("spec", "podSelector"), "the NetworkPolicy must select the run's own pods (podSelector.matchLabels)"
    if "Ingress" not in (spec.get("policyTypes") or []):
        yield ("spec", "policyTypes"), "the NetworkPolicy must rule Ingress"
    for number, rule in enumerate(spec.get("ingress") or []):
        sources = rule.get("from") or []
        if not sources or any(not any(source.values()) or "ipBlock" in source for source in sources):
            yield ("spec", "ingress", number), "this rule lets in whoever asks: name the pods (podSelector)"
