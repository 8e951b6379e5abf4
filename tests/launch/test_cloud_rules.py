"""What would be wrong or unsafe of a cluster in the cloud is found before anything is made."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch.backends.cloud import CloudProfile
from cotuning_tune.launch.cloud_rules import check_cluster
from cotuning_tune.launch.profile import profile_text
from cotuning_tune.launch.templates import launch_files
from cotuning_tune.launch.yaml_text import documents

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
AWS = (GOLDEN / "cloud" / "cluster.yaml").read_text()
GCP = (GOLDEN / "cloud_gcp" / "cluster.yaml").read_text()

FAULTS = {
    "an unknown key": (AWS, "max_workers: 2", "max_worker: 2", "'max_worker' was unexpected"),
    "a key of no instance": (AWS, '"InstanceType": "g5', '"InstancType": "g5', "did you mean 'InstanceType'?"),
    "google's unknown key": (GCP, '"scheduling"', '"schedulin"', "did you mean 'scheduling'?"),
    "a wrong type": (AWS, "min_workers: 2", "min_workers: two", "'two' is not of type 'integer'"),
    "more at least than at most": (AWS, "min_workers: 2", "min_workers: 3", "min_workers 3 is more than max_workers 2"),
    "too few in all": (AWS, "max_workers: 2", "max_workers: 1", "max_workers 1 is less than the 2 of min_workers"),
    "a head at spot price": (
        AWS,
        '"InstanceInitiatedShutdownBehavior": "terminate"',
        '"InstanceMarketOptions": {"MarketType": "spot"}',
        "the head must not be a spot instance",
    ),
    "google's head at spot price": (
        GCP,
        '"machineType": "n2-standard-4"',
        '"scheduling": {"preemptible": true}',
        "the head must not be a spot instance",
    ),
    "no such head": (AWS, "head_node_type: head", "head_node_type: boss", "no node type 'boss'"),
    "another cloud": (AWS, "type: aws", "type: azure", "no cloud 'azure'"),
    "an open group": (
        AWS,
        "cache_stopped_nodes: false",
        "security_group: {IpPermissions: [{FromPort: 8265, ToPort: 8265, IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
        "this rule lets everybody in",
    ),
    "an open ssh port": (
        AWS,
        "cache_stopped_nodes: false",
        "security_group: {IpPermissions: [{FromPort: 22, ToPort: 22, Ipv6Ranges: [{CidrIpv6: '::/0'}]}]}",
        "this rule lets everybody in",
    ),
    "a dashboard for all": (AWS, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "must listen on 127.0.0.1"),
    "no token": (AWS, "  - . ~/cotuning-tune/environment; ", "  - ", "without it the cluster asks for no token"),
    "no start": (AWS, "~/venv/bin/ray start --address", "echo --address", "'ray start' is missing"),
    "a token in sight": (
        AWS,
        "worker_setup_commands: []",
        "worker_setup_commands: [export RAY_AUTH_TOKEN=1]",
        "by file",
    ),
    "no token's file": (AWS, '~/cotuning-tune/token":', '~/token":', "the token's file is not among"),
}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's package; where it is missing, as much of its list of fields as our file takes."""
    if importlib.util.find_spec("googleapiclient") is None:
        fields = dict.fromkeys(["machineType", "disks", "scheduling", "serviceAccounts", "guestAccelerators"])
        text = json.dumps({"schemas": {"Instance": {"properties": fields}}})
        stand_in = SimpleNamespace(get_static_doc=lambda *asked: {("compute", "v1"): text}[asked])
        monkeypatch.setitem(sys.modules, "googleapiclient", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "googleapiclient.discovery_cache", stand_in)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_mistakes_are_found_with_their_line(fault: str, google: None) -> None:
    """One line with file, line and mistake; the line is the one that was changed, or that of its part."""
    text, old, new, message = FAULTS[fault]
    start = text.index(old)
    (document,) = documents(text.replace(old, new, 1), "cluster.yaml")
    with pytest.raises(UserError) as caught:
        check_cluster(document, open_ssh=False)
    said = str(caught.value)
    assert message in said
    assert "\n" not in said
    line = int(said.removeprefix("cluster.yaml line ").partition(":")[0])
    first = text[:start].count("\n") + 1
    assert first - 2 <= line <= first or "was unexpected" in said


def test_an_ssh_rule_for_all_passes_where_it_is_asked_for() -> None:
    """Port 22 alone, and only with open_ssh."""
    rule = "security_group: {IpPermissions: [{FromPort: 22, ToPort: 22, IpRanges: [{CidrIp: 0.0.0.0/0}]}]}"
    (document,) = documents(AWS.replace("cache_stopped_nodes: false", rule), "cluster.yaml")
    check_cluster(document, open_ssh=True)


@pytest.mark.parametrize("text", [AWS, GCP], ids=["aws", "gcp"])
def test_ray_itself_takes_the_yaml(text: str, google: None) -> None:
    """Ray's own preparation and validation, as ``ray up`` begins."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    (document,) = documents(text, "cluster.yaml")
    check_cluster(document, open_ssh=False)
    prepared = prepare_config(document.value)
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert "dashboard-host=0.0.0.0" not in str(prepared)


def test_amazon_takes_every_value() -> None:
    """What Ray passes on to EC2 is known there, to the last value."""
    session = pytest.importorskip("botocore.session", reason="NOT TESTED: botocore is missing")
    shape = session.get_session().get_service_model("ec2").shape_for("RunInstancesRequest")
    validate = pytest.importorskip("botocore.validate").ParamValidator().validate
    (document,) = documents(AWS, "cluster.yaml")
    for kind in document.value["available_node_types"].values():
        assert not validate({**kind["node_config"], "MinCount": 1, "MaxCount": 1}, shape).has_errors()


def test_fields_of_ray_itself_are_known(google: None) -> None:
    """What Ray takes for itself before the cloud sees it: the subnets, and Google's template of an instance."""
    for text, old, new in (
        (AWS, '"InstanceType": "g5', '"SubnetIds": [], "InstanceType": "g5'),
        (GCP, '"scheduling"', '"sourceInstanceTemplate": "a", "scheduling"'),
    ):
        assert old in text
        (document,) = documents(text.replace(old, new, 1), "cluster.yaml")
        check_cluster(document, open_ssh=False)


def test_fields_are_not_checked_without_the_clouds_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run needs no package of a cloud; a launch does, and then they are."""
    (document,) = documents(AWS.replace('"InstanceType": "g5', '"InstancType": "g5'), "cluster.yaml")
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    check_cluster(document, open_ssh=False)


def test_the_skypilot_task_is_one_machine_without_secrets() -> None:
    """Spot, one node, the studies' URL as a secret without a value, the entry point exec'ed."""
    (task,) = documents((launch_files() / "cloud" / "skypilot.yaml").read_text(), "skypilot.yaml")
    assert set(task.value) == {"name", "resources", "num_nodes", "workdir", "envs", "secrets", "setup", "run"}
    assert task.value["resources"]["use_spot"] is True
    assert task.value["num_nodes"] == 1
    assert task.value["secrets"] == {"COTUNING_TUNE_OPTUNA_STORAGE": None}
    assert task.value["run"].startswith("exec ~/venv/bin/python -m cotuning_tune.cli.entry")
    assert (ROOT / task.value["envs"]["EXPERIMENT"]).exists()


def test_the_profile_file_names_every_key() -> None:
    """``launch/profiles/cloud.toml`` holds each key with its default and meaning, as a comment."""
    text = (launch_files() / "profiles" / "cloud.toml").read_text()
    shown = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    assert shown == profile_text(CloudProfile).splitlines()
