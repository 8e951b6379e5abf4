"""The real ``ray up`` with the rendered YAML, against a stand-in for AWS on a host that no packet leaves."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.launch import Request
from cotuning_tune.launch.backends.cloud import CloudBackend, CloudProfile, _write_files
from tests.hosts.bed import Host, bed
from tests.servers import S3_KEYS

ROOT = Path(__file__).parents[2]
PORT = 5000
# what an account has before: a group, an image, a role
ACCOUNT = """
import boto3, json, time
for _ in range(200):
    try:
        ec2 = boto3.client("ec2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        break
    except Exception:
        time.sleep(0.2)
print(json.dumps({
    "security_group": ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"],
    "image": ec2.describe_images()["Images"][0]["ImageId"],
    "instance_profile": boto3.client("iam").create_instance_profile(InstanceProfileName="r")["InstanceProfile"]["Arn"],
}))
"""
MACHINES = """
import boto3, json
found = boto3.client("ec2").describe_instances()["Reservations"]
print(json.dumps([machine for group in found for machine in group["Instances"]], default=str))
"""


def _ask(host: Host, program: str, env: dict[str, str]) -> Any:
    return json.loads(host.run([sys.executable, "-W", "ignore", "-c", program], env=env).stdout)


def test_the_head_is_launched_as_the_yaml_says(tmp_path: Path) -> None:
    """Ray asks for one machine on demand, in the named group alone, with the role; and takes it down again."""
    pytest.importorskip("moto", reason="NOT TESTED: moto is missing (extra [dev])")
    env = {**S3_KEYS, "AWS_DEFAULT_REGION": "us-west-2", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}"}
    env |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with bed(1) as (host,), (tmp_path / "log").open("ab") as log:
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(PORT)]
        server = host.popen(command, env=env, stdout=log, stderr=log)
        account = _ask(host, ACCOUNT, env)
        profile = replace(CloudProfile(package="git+https://example.org/x.git"), **account)
        path = ROOT / "search_spaces" / "tiny.toml"
        request = Request(path, "tiny", "s3://bucket/runs", "", profile, tmp_path)
        CloudBackend().check(request)
        for name, text in CloudBackend().plan(request).files.items():
            (tmp_path / name).write_text(text)
        _write_files(request)
        cluster = str(tmp_path / "cluster.yaml")
        up = host.popen(["ray", "up", "-y", "--disable-usage-stats", cluster], env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not (found := _ask(host, MACHINES, env)):
            assert up.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        for pid, line in host.processes().items():  # it would wait for ssh, which nobody answers
            if "ray up" in line or " up -y" in line:
                os.kill(pid, signal.SIGKILL)
        up.wait(60)
        (head,) = found
        assert head["InstanceType"] == "m5.xlarge"
        assert head["ImageId"] == account["image"]
        assert head.get("InstanceLifecycle") != "spot"
        assert [group["GroupId"] for group in head["SecurityGroups"]] == [account["security_group"]]
        assert head["IamInstanceProfile"]["Arn"] == account["instance_profile"]
        host.run(["ray", "down", "-y", cluster], env=env)
        assert [machine["State"]["Name"] for machine in _ask(host, MACHINES, env)] == ["terminated"]
        server.terminate()
        server.wait(60)
    assert (tmp_path / "token").read_text() not in (tmp_path / "log").read_text()
