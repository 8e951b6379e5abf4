"""What is refused of a manifest before it is sent: planted mistakes, each with its line."""

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch.backends import k8s
from cotuning_tune.launch.kube_api import Api
from cotuning_tune.launch.kube_config import open_server
from cotuning_tune.launch.kube_rules import check_object
from cotuning_tune.launch.yaml_text import documents
from tests.launch.kube_server import TOKEN, kube_server, write_kubeconfig

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(os.environ.get("COTUNING_TUNE_SCHEMAS") or Path(__file__).parents[3] / "shared" / "schemas")
RAYJOB = (GOLDEN / "k8s" / "rayjob.yaml").read_text()
OBJECTS = (GOLDEN / "k8s" / "objects.yaml").read_text()
POLICY = OBJECTS[OBJECTS.index("# Only the") :]

# what is written instead, where, and what is said of it
FAULTS = {
    "a long name": ('name: "ct-new-1"', f"name: {'x' * 48}", "has 48 characters, 47 are possible"),
    "a name with a digit first": ('name: "ct-new-1"', "name: 7tiny", "'7tiny' is not a name for a RayJob"),
    "suspend alone": (
        "suspend: false",
        "suspend: true",
        "suspend needs shutdownAfterJobFinishes",
        ("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false"),
    ),
    "a negative limit": ("backoffLimit: 3", "backoffLimit: -1", "backoffLimit must be a whole number of at least 0"),
    "no deadline": ("activeDeadlineSeconds: 604800", "activeDeadlineSeconds: 0", "at least 1, not 0"),
    "a selector that is retried": (
        "submissionMode: K8sJobMode",
        "clusterSelector: {ray.io/cluster: other}",
        "clusterSelector cannot be retried",
    ),
    "a sidecar with a submitter": ("K8sJobMode", "SidecarMode", "SidecarMode takes neither"),
    "an interactive retry": ("K8sJobMode", "InteractiveMode", "InteractiveMode cannot be retried"),
    "more at least than at most": ("minReplicas: 2", "minReplicas: 3", "minReplicas 3 is more than maxReplicas 2"),
    "a word for a number": ("minReplicas: 2", "minReplicas: two", "minReplicas must be a whole number, not 'two'"),
    "replicas beyond": ("  replicas: 2", "  replicas: 5", "replicas 5 is not from 2"),
    "resources twice": (
        'rayStartParams:\n        num-cpus: "0"',
        'resources: {CPU: "0"}\n      rayStartParams:\n        num-cpus: "0"',
        "resources of the group 'head' stand in rayStartParams too",
    ),
    "an entrypoint with cores": (
        "submissionMode: K8sJobMode",
        "entrypointNumCpus: 1",
        "the head has num-cpus '0': an entrypoint that asks for some never starts",
    ),
    "a gated network policy": ("authOptions:", "networkPolicy: {}\n    authOptions:", "behind a gate"),
    "no token": ("mode: token", "mode: disabled", "authOptions.mode must be token"),
    "an old Ray": ('rayVersion: "2.60.0"', 'rayVersion: "2.9.3"', "tokens need a rayVersion of 2.52 or newer"),
    "a head for all": ("serviceType: ClusterIP", "serviceType: LoadBalancer", "must not be reached from outside"),
    "the node's network": (
        "terminationGracePeriodSeconds: 120",
        "hostNetwork: true",
        "hostNetwork takes the pod out of the NetworkPolicy",
    ),
    "a volume that is not there": ('"name": "runs", "mountPath"', '"name": "run", "mountPath"', "no volume 'run'"),
    "a password in sight": (
        '"name": "RAY_USAGE_STATS_ENABLED", "value": "0"',
        '"name": "DB_PASSWORD", "value": "x"',
        "the value of DB_PASSWORD stands in the manifest",
    ),
    "a key given twice": ("suspend: false", "suspend: false\n  suspend: true", "'suspend' is given twice"),
    "no YAML": ("suspend: false", "suspend: [false", "line"),
}


def _check(text: str) -> None:
    for document in documents(text, "rayjob.yaml"):
        check_object(document)


def _refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        _check(text)
    return str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_mistakes_are_found_with_their_line(fault: str) -> None:
    """One line that names file, line and mistake; the line is the one that was changed."""
    old, new, message, *more = FAULTS[fault]
    assert old in RAYJOB
    start = RAYJOB.index(old)
    text = RAYJOB.replace(old, new, 1)
    for before, after in more:
        text = text.replace(before, after, 1)
    said = _refusal(text)
    assert message in said
    assert "\n" not in said
    first = RAYJOB[:start].count("\n") + 1
    changed = range(first, first + new.count("\n") + 2)
    assert any(said.startswith(f"rayjob.yaml line {line}: ") for line in changed), (said, changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '        - podSelector:\n            matchLabels:\n              cotuning-tune/run: "ct-new-1"',
            "        - ipBlock: {cidr: 0.0.0.0/0}",
            "lets in whoever asks",
        ),
        (
            '        - podSelector:\n            matchLabels:\n              cotuning-tune/run: "ct-new-1"',
            "        - podSelector: {}",
            "lets in whoever asks",
        ),
        ("policyTypes: [Ingress]", "policyTypes: [Egress]", "must rule Ingress"),
        (
            '  podSelector:\n    matchLabels:\n      cotuning-tune/run: "ct-new-1"',
            "  podSelector: {}",
            "must select the run's own",
        ),
        ("kind: NetworkPolicy", "kind: NetworkPolicies", "did you mean 'NetworkPolicy'?"),
    ],
)
def test_a_network_policy_that_lets_others_in_is_refused(old: str, new: str, message: str) -> None:
    """An address block, an empty selector, a policy of something else."""
    assert old in POLICY
    assert message in _refusal(POLICY.replace(old, new, 1))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("k8s*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_is_rendered_is_refused_nowhere(path: Path) -> None:
    """Our own files keep our own rules."""
    _check(path.read_text())


def _schema(kind: str) -> Any:
    found = sorted(SCHEMAS.glob(f"kuberay-*-{kind}.schema.json.gz"))
    if not found:
        pytest.skip(f"NOT TESTED against KubeRay's own schema: {SCHEMAS} holds none (COTUNING_TUNE_SCHEMAS)")
    return json.loads(gzip.decompress(found[-1].read_bytes()))


@pytest.mark.parametrize("name", ["k8s", "k8s_s3"])
def test_the_rayjob_is_of_kuberays_schema(name: str) -> None:
    """No field that the API server would drop, no value of another type; a wrong field is found."""
    jsonschema = pytest.importorskip("jsonschema", reason="NOT TESTED: jsonschema is missing (extra [dev])")
    (job,) = documents((GOLDEN / name / "rayjob.yaml").read_text(), "rayjob.yaml")
    validator = jsonschema.Draft202012Validator(_schema("rayjob"))
    assert [error.message for error in validator.iter_errors(job.value)] == []
    job.value["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resource"] = {}
    assert ["'resource' was unexpected" in error.message for error in validator.iter_errors(job.value)] == [True]


# what is written instead, and what the server says of it
LEFT_TO_THE_SERVER = {
    "an unknown field": ("backoffLimit: 3", "backofLimit: 3", "'backofLimit' was unexpected"),
    "a container's unknown field": ("envFrom: []", "envfrom: []", "'envfrom' was unexpected"),
    "another API": ("apiVersion: ray.io/v1", "apiVersion: ray.io/v1alpha1", "does not match the expected (ray.io/v1)"),
    "a number that must be text": ('num-cpus: "0"', "num-cpus: 0", "0 is not of type 'string'"),
    "no amount": ('memory: "8Gi"', 'memory: "8 GB"', "'8 GB' does not match"),
}


@pytest.mark.parametrize("fault", LEFT_TO_THE_SERVER)
def test_planted_mistakes_that_the_server_finds(fault: str, tmp_path: Path) -> None:
    """What KubeRay's schema refuses is told in one line, with nothing made."""
    old, new, message = LEFT_TO_THE_SERVER[fault]
    jsonschema = pytest.importorskip("jsonschema", reason="NOT TESTED: jsonschema is missing (extra [dev])")
    validator = jsonschema.Draft202012Validator(_schema("rayjob"))
    assert old in RAYJOB
    with kube_server() as kube:
        kube.problems = lambda item: [error.message for error in validator.iter_errors(item)]
        path = write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{kube.port}", token=TOKEN)
        api = Api(open_server(str(path)), "default")
        good, bad = (documents(text, "rayjob.yaml")[0] for text in (RAYJOB, RAYJOB.replace(old, new, 1)))
        check_object(bad)
        k8s._rehearse(api, good.value, [])
        with pytest.raises(UserError, match=r"refuses it \(400\): .*" + re.escape(message)):
            k8s._rehearse(api, bad.value, [])
        assert kube.objects == {}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("k8s*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_kubernetes_knows_its_own_objects(path: Path) -> None:
    """The ConfigMap, the NetworkPolicy and the claim are of Kubernetes' own schemas, to the last field."""
    validator = pytest.importorskip("kubernetes_validate", reason="NOT TESTED: kubernetes-validate is missing")
    for document in documents(path.read_text(), path.name):
        if document.value["kind"] != "RayJob":
            validator.validate(document.value, validator.latest_version(), strict=True)
