"""What is refused of a YAML for ``ray up``: what Ray's schema refuses, what it leaves unchecked, what is unsafe."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.launch.yaml_text import Document, Problem, Where

EVERYBODY = ("0.0.0.0/0", "::/0")
ENVIRONMENT = "~/cotuning-tune/environment"
PROVIDERS = ("aws", "gcp")


def check_cluster(document: Document, open_ssh: bool) -> None:
    """Refuse the first mistake with its line. Raises UserError; also where Ray is not installed here."""
    value = document.value
    if not isinstance(value, Mapping):
        raise UserError(f"{document.file} is not a mapping of a cluster")
    document.refuse(_schema(value))
    rules = (_types(value), _spot(value), _groups(value, open_ssh), _commands(value), _strings((), value))
    document.refuse(chain(*rules))


def _schema(value: Mapping[str, Any]) -> Iterator[Problem]:
    """Ray's JSON schema, read from its package without importing it."""
    import jsonschema

    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        raise UserError("ray is not installed here, and it is 'ray up' that makes the cluster: pip install ray")
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    for error in jsonschema.Draft7Validator(schema).iter_errors(value):
        yield tuple(error.absolute_path), error.message.splitlines()[0]


def _types(value: Mapping[str, Any]) -> Iterator[Problem]:
    types, provider = value.get("available_node_types") or {}, str(value["provider"]["type"])
    if provider not in PROVIDERS:
        yield ("provider", "type"), str(unknown("cloud", provider, PROVIDERS))
        return
    if value.get("head_node_type") not in types:
        yield ("head_node_type",), str(unknown("node type", str(value.get("head_node_type")), types))
        return
    known = _fields(provider)
    for name, kind in types.items():
        low, high = kind.get("min_workers", 0), kind.get("max_workers", value.get("max_workers", 0))
        at: Where = ("available_node_types", name)
        if low > high:
            yield (*at, "min_workers"), f"min_workers {low} is more than max_workers {high}"
        for key in kind["node_config"]:
            if known and key not in known:
                yield (*at, "node_config", key), str(unknown(f"field of an instance ({provider})", str(key), known))
    least = sum(kind.get("min_workers", 0) for kind in types.values())
    if least > value.get("max_workers", 0):
        yield ("max_workers",), f"max_workers {value.get('max_workers', 0)} is less than the {least} of min_workers"


def _fields(provider: str) -> set[str]:
    """An instance's fields as the cloud's own package knows them, with Ray's; none without it, which a launch needs.

    The schema takes any, and a worker with one that does not exist is tried for again and again by the head.
    """
    try:
        if provider == "aws":
            from botocore.session import get_session

            return {*get_session().get_service_model("ec2").shape_for("RunInstancesRequest").members, "SubnetIds"}
        from googleapiclient.discovery_cache import get_static_doc
    except ImportError:
        return set()
    known = json.loads(get_static_doc("compute", "v1") or "null")
    return {*known["schemas"]["Instance"]["properties"], "sourceInstanceTemplate"} if known else set()


def _spot(value: Mapping[str, Any]) -> Iterator[Problem]:
    head = value["head_node_type"]
    config = value["available_node_types"][head]["node_config"]
    at: Where = ("available_node_types", head, "node_config")
    if "InstanceMarketOptions" in config:
        yield (*at, "InstanceMarketOptions"), "the head must not be a spot instance: the driver runs there"
    scheduling = config.get("scheduling") or {}
    if scheduling.get("preemptible") or scheduling.get("provisioningModel") == "SPOT":
        yield (*at, "scheduling"), "the head must not be a spot instance: the driver runs there"


def _groups(value: Mapping[str, Any], open_ssh: bool) -> Iterator[Problem]:
    """Where nothing is said, Ray makes a security group that opens port 22 to everybody."""
    provider = value["provider"]
    for number, rule in enumerate((provider.get("security_group") or {}).get("IpPermissions") or []):
        at: Where = ("provider", "security_group", "IpPermissions", number)
        ranges = [*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", [])]
        if any(part.get("CidrIp", part.get("CidrIpv6")) in EVERYBODY for part in ranges):
            ssh = rule.get("FromPort") == 22 == rule.get("ToPort")
            if not (ssh and open_ssh):
                yield at, "this rule lets everybody in: name your own addresses (port 22 alone: open_ssh = true)"
    if provider["type"] != "aws" or open_ssh:
        return
    for name, kind in value["available_node_types"].items():
        config = kind["node_config"]
        if not any(key in config for key in ("SecurityGroupIds", "NetworkInterfaces", "LaunchTemplate")):
            at = ("available_node_types", name, "node_config")
            yield at, "no security group: Ray would make one that opens port 22 to everybody (security_group, open_ssh)"


def _commands(value: Mapping[str, Any]) -> Iterator[Problem]:
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = value.get(part) or []
        if not any("ray start" in command for command in commands):
            yield (part,), "'ray start' is missing: Ray's own default asks for no token"
        for number, command in enumerate(commands):
            if "ray start" in command:
                yield from _start((part, number), command)
    if ENVIRONMENT.replace("environment", "token") not in (value.get("file_mounts") or {}):
        yield ("file_mounts",), "the token's file is not among the file_mounts"


def _start(at: Where, command: str) -> Iterator[Problem]:
    if f". {ENVIRONMENT};" not in command:
        yield at, f"'ray start' must come after '. {ENVIRONMENT};': without it the cluster asks for no token"
    if "--head" in command and "--dashboard-host=127.0.0.1" not in command:
        yield at, "the dashboard must listen on 127.0.0.1 alone (--dashboard-host=127.0.0.1): use 'ray dashboard'"


def _strings(where: Where, value: Any) -> Iterator[Problem]:
    """Secrets do not belong into the YAML: Ray copies it to the head and shows it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings((*where, str(key)), item)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings((*where, number), item)
    elif isinstance(value, str):
        for name in ("RAY_AUTH_TOKEN=", "COTUNING_TUNE_OPTUNA_STORAGE=", "AWS_SECRET_ACCESS_KEY="):
            if name in value:
                yield where, f"{name[:-1]} must not stand in the YAML: it goes by file (the profile's environment)"
