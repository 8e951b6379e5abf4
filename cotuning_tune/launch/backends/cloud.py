"""Machines of a cloud (AWS, Google Cloud) at spot prices, by ``ray up``."""

import importlib.util
import os
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.base.names import check_setting
from cotuning_tune.hyper import hyper
from cotuning_tune.launch.backend import ENDS, Backend, Plan, Request, Unsure, dashed
from cotuning_tune.launch.cloud_rules import PROVIDERS, check_cluster
from cotuning_tune.launch.record import Launch, write_private
from cotuning_tune.launch.storage import text_there
from cotuning_tune.launch.templates import render
from cotuning_tune.launch.yaml_text import documents, quoted

THERE = "~/cotuning-tune"
NO_HEAD = re.compile(r"Head node of cluster .* not found")
WHEEL = re.compile(r"[A-Za-z0-9_.+!-]+\.whl", re.ASCII)  # Ray's rsync hands it to the machines' shells
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
MOST_CHARACTERS = 40  # Google's names of instances hold it together with what Ray adds
SDK = {"aws": ("boto3",), "gcp": ("googleapiclient", "google_auth_httplib2")}
SDK_PACKAGES = {"aws": "boto3", "gcp": "google-api-python-client google-auth-httplib2"}
GOOGLE_KEYS = "~/.config/gcloud/application_default_credentials.json"


@dataclass(frozen=True)
class CloudProfile:
    """What machines, where, and what is installed on them."""

    provider: str = hyper("aws", doc="aws or gcp")
    region: str = hyper("us-west-2", doc="region of the machines")
    zone: str = hyper("", doc="gcp: zone in the region")
    project: str = hyper("", doc="gcp: project id")
    package: str = hyper("", doc="what pip installs: a wheel here, or an address as git+https://...")
    ray_version: str = hyper("2.60.0", doc="version of Ray, the same as here")
    ssh_user: str = hyper("ubuntu", doc="user of the image")
    image: str = hyper("", doc="aws: AMI (empty: Ray's choice for the region); gcp: projects/.../images/...")
    head_type: str = hyper("m5.xlarge", doc="machine type of the head, which is not a spot instance")
    worker_type: str = hyper("g5.xlarge", doc="machine type of the workers")
    workers: int = hyper(2, doc="workers at spot price; lost ones are replaced")
    cpus: int = hyper(4, doc="cores of a worker")
    gpus: int = hyper(1, doc="GPUs of a worker")
    accelerator: str = hyper("", doc="gcp: GPU type, as nvidia-l4, where the machine type has none of its own")
    disk_gb: int = hyper(200, doc="disk of each machine in GB")
    security_group: str = hyper("", doc="aws: id of a group that lets in ssh from you and its own members on all ports")
    open_ssh: bool = hyper(False, doc="aws: let Ray make a group that opens port 22 to everybody")
    instance_profile: str = hyper("", doc="aws: ARN of the role: EC2 for the head, the bucket for all")
    service_account: str = hyper("", doc="gcp: e-mail of the account of all machines")
    environment: str = hyper(
        "", doc="file with NAME=VALUE lines for all machines, as AWS_ACCESS_KEY_ID; sent, never shown"
    )
    down: bool = hyper(True, doc="take all machines down when the run has ended")
    templates: str = hyper("", doc="folder with own cloud/aws.yaml, cloud/gcp.yaml, cloud/driver.sh")


def cluster_name(run: str) -> str:
    """The run's name as the clouds take it. Raises UserError."""
    name = dashed(run)
    if not name or not name[0].isalpha() or len(name) > MOST_CHARACTERS:
        raise UserError(f"'{run}' cannot name a cluster: a letter first, {MOST_CHARACTERS} characters at most (--name)")
    return name


def _aws(profile: CloudProfile) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an instance of the head and of a worker is made of."""
    disk = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": profile.disk_gb, "VolumeType": "gp3"}}]
    both: dict[str, Any] = {"BlockDeviceMappings": disk, "MetadataOptions": {"HttpTokens": "required"}}
    if profile.image:
        both["ImageId"] = profile.image
    if profile.security_group:
        both["SecurityGroupIds"] = [profile.security_group]
    if profile.instance_profile:
        both["IamInstanceProfile"] = {"Arn": profile.instance_profile}
    head = {"InstanceType": profile.head_type, **both, "InstanceInitiatedShutdownBehavior": "terminate"}
    return head, {"InstanceType": profile.worker_type, **both, "InstanceMarketOptions": {"MarketType": "spot"}}


def _gcp(profile: CloudProfile) -> tuple[dict[str, Any], dict[str, Any]]:
    disk = {"diskSizeGb": profile.disk_gb, "sourceImage": profile.image}
    both: dict[str, Any] = {
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}]
    }
    if profile.service_account:
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        both["serviceAccounts"] = [{"email": profile.service_account, "scopes": scopes}]
    spot = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE", "onHostMaintenance": "TERMINATE"}
    worker = {"machineType": profile.worker_type, **both, "scheduling": spot}
    if profile.accelerator:
        kind = f"projects/{profile.project}/zones/{profile.zone}/acceleratorTypes/{profile.accelerator}"
        worker["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": profile.gpus}]
    return {"machineType": profile.head_type, **both}, worker


def _mounted(request: Request) -> dict[str, Path]:
    """The files of every machine, and where they lie here."""
    wheel = Path(request.profile.package).expanduser()
    names = {name: request.folder / name for name in ("token", "environment", "driver.sh", "experiment.toml")}
    found = {f"{THERE}/{name}": path for name, path in names.items()}
    return {**found, f"{THERE}/{wheel.name}": wheel.absolute()} if wheel.suffix == ".whl" else found


def _setup(profile: CloudProfile) -> tuple[list[str], list[str]]:
    """What is installed on every machine, and on the head besides."""
    wheel, extras = Path(profile.package), "[s3,postgresql]"
    wanted = (
        f'"$HOME"/cotuning-tune/{shlex.quote(wheel.name + extras)}'
        if wheel.suffix == ".whl"
        else shlex.quote(f"cotuning_tune{extras} @ {profile.package}")
    )
    install = "~/.local/bin/uv pip install --python ~/venv/bin/python"
    every = [
        f"chmod 700 {THERE} && chmod 600 {THERE}/token {THERE}/environment",
        "test -x ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh",
        "~/.local/bin/uv venv --allow-existing --python 3.11 ~/venv",
        f"{install} {shlex.quote(f'ray[default]=={profile.ray_version}')} {wanted}",
    ]
    return every, [f"{install} {SDK_PACKAGES[profile.provider]}"]


def _values(request: Request) -> dict[str, str]:
    profile: CloudProfile = request.profile
    head, worker = _aws(profile) if profile.provider == "aws" else _gcp(profile)
    setup, head_setup = _setup(profile)
    values = {
        **vars(profile),
        "cluster": cluster_name(request.name),
        "head_config": head,
        "worker_config": worker,
        "worker_resources": {"CPU": profile.cpus, "GPU": profile.gpus},
        "file_mounts": {there: str(here) for there, here in _mounted(request).items()},
        "setup": setup,
        "head_setup": head_setup,
    }
    return {key: quoted(value) for key, value in values.items()}


def _driver(request: Request) -> str:
    profile: CloudProfile = request.profile
    entry = request.entry_on_head("experiment.toml", profile.workers)
    ray = "~/venv/bin/ray"
    take_down = f"{{ {ray} teardown ~/ray_bootstrap_config.yaml --yes --workers-only; sudo shutdown -h now; }}"
    values = {
        "entry": f"~/venv/bin/{shlex.join(entry)}",
        "down": "yes" if profile.down else "no",
        "take_down": take_down,
        "kept_log": shlex.quote(f"{request.storage.rstrip('/')}/{request.name}.log"),
    }
    return render("cloud/driver.sh", values, profile.templates)


class CloudBackend(Backend):
    """``ray up`` makes the cluster, ``ray exec`` reaches the driver on its head over ssh."""

    Profile = CloudProfile

    def check(self, request: Request) -> None:
        profile: CloudProfile = request.profile
        if profile.provider not in PROVIDERS:
            raise unknown("cloud", profile.provider, PROVIDERS)
        if not request.storage.startswith("s3://"):
            raise UserError(
                f"{request.storage} is not shared by the machines of a cloud: name s3://BUCKET/PREFIX (--storage);"
                " gs:// is not supported, Google's storage is reached as s3:// with AWS_ENDPOINT_URL=https://storage.googleapis.com"
            )
        if not profile.package:
            raise UserError("the profile's package is missing: a wheel (python -m build), or git+https://...")
        if profile.provider == "gcp" and not (profile.zone and profile.project and profile.image):
            raise UserError("gcp needs the profile's project, zone and image (projects/PROJECT/global/images/...)")
        if not (profile.environment or profile.instance_profile):
            raise UserError(
                "nothing lets the machines write to the bucket: set the profile's instance_profile (aws), or its"
                " environment, a file with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        for name, path in (("package", profile.package), ("environment", profile.environment)):
            if path and (name == "environment" or path.endswith(".whl")) and not Path(path).expanduser().is_file():
                raise UserError(f"the profile's {name} {path} cannot be read: there is no such file")
        if profile.package.endswith(".whl") and not WHEEL.fullmatch(Path(profile.package).name):
            raise UserError(
                f"the profile's package {profile.package!r} is not a wheel's name, as python -m build makes it"
            )
        if not USER.fullmatch(profile.ssh_user):
            raise UserError(f"the profile's ssh_user {profile.ssh_user!r} is not a user's name")
        (cluster,) = documents(self.plan(request).files["cluster.yaml"], "cluster.yaml")
        check_cluster(cluster, profile.open_ssh)

    def plan(self, request: Request) -> Plan:
        profile: CloudProfile = request.profile
        files = {
            "cluster.yaml": render(f"cloud/{profile.provider}.yaml", _values(request), profile.templates),
            "driver.sh": _driver(request),
        }
        return Plan(files, _commands(request))

    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        _check_sdk(request.profile)
        _write_files(request)
        for command in plan.commands[:-1]:
            _ray(request.folder, command[1:])
        try:
            _ray(request.folder, plan.commands[-1][1:])
        except UserError as problem:
            raise Unsure(f"{problem}; whether the driver has been started is not known: launch status asks") from None
        return _facts(request.folder)

    def find(self, launch: Launch) -> dict[str, Any] | None:
        """Raises UserError where there may be a head that cannot be reached."""
        try:
            said = _ray(
                launch.folder, ["exec", *_facts(launch.folder).values(), _on_head(f"find {launch.attempt_name}")]
            )
        except UserError as problem:
            if NO_HEAD.search(str(problem)):
                return None
            raise
        return _facts(launch.folder) if _told(said) == "started" else None

    def clear(self, launch: Launch) -> str:
        _ray(launch.folder, ["down", "-y", *_facts(launch.folder).values()])
        return "no driver runs, the machines are down"

    def state(self, launch: Launch) -> str:
        from cotuning_tune.launch.verbs import summary_of

        found = _driver_says(launch, "state")
        if found == "running":
            return "running"
        code = found.removeprefix("ended").strip()
        known = {**ENDS, "2": "failed: a mistake in what was given, see logs"}
        if code in known:
            return known[code]
        if code:
            return "killed: resume continues" if code == "killed" else f"failed: exit code {code}"
        return "ended" if summary_of(launch) else "gone: the head cannot be reached; the run lies in its storage"

    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        command = [_program(), "exec", launch.facts["cluster"], _on_head("follow" if follow else "log")]
        with subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            try:
                yield from process.stdout
            finally:
                process.terminate()
        if process.returncode:
            yield from _kept(launch)

    def stop(self, launch: Launch) -> str:
        said = _driver_says(launch, "stop")
        _ray(launch.folder, ["down", "-y", launch.facts["cluster"]])
        if not said:
            return "the head could not be reached; the machines are down, nothing is lost"
        if said == "running":
            return "the driver did not end in time and went down with its machine; nothing is lost"
        return "stopped cleanly, the machines are down; nothing is lost"


def _kept(launch: Launch) -> Iterator[str]:
    """The log that the head left in the storage before it was taken down."""
    kept = text_there(f"{launch.run}.log")
    yield f"the head cannot be reached, and {launch.run}.log is not there\n" if kept is None else kept


def _on_head(verb: str) -> str:
    return f"sh {THERE}/driver.sh {verb}"


def _commands(request: Request) -> list[list[str]]:
    cluster, folder = str(request.folder / "cluster.yaml"), request.folder
    up = ["ray", "up", "-y", "--disable-usage-stats", cluster]
    studies = ["ray", "rsync-up", cluster, str(folder / "optuna_storage.url"), f"{THERE}/optuna_storage.url"]
    start = ["ray", "exec", "--disable-usage-stats", cluster, _on_head(f"start {request.attempt_name}")]
    return [up, *([studies] if request.optuna_storage else []), start]


def _program() -> str:
    if found := shutil.which("ray"):
        return found
    raise UserError("the program 'ray' is not found: pip install 'ray[default]', in the environment that this runs in")


def _environment() -> dict[str, str]:
    return {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_UP_enable_autoscaler_v2": "1"}


def _ray(folder: Path, arguments: list[str]) -> str:
    """What a command of Ray says, kept in the launch's folder too. Raises UserError where it fails."""
    done = subprocess.run(
        [_program(), *arguments],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    with (folder / "ray.log").open("a", encoding="utf-8") as log:
        log.write(done.stdout)
    if done.returncode:
        last = ([line.strip() for line in done.stdout.splitlines() if line.strip()] or [f"code {done.returncode}"])[-1]
        raise UserError(f"'ray {arguments[0]}' failed: {last} (all of it: {folder / 'ray.log'})")
    return done.stdout


def _driver_says(launch: Launch, verb: str) -> str:
    """The state that the driver's script tells; '' where the head cannot be reached."""
    try:
        said = _ray(launch.folder, ["exec", launch.facts["cluster"], _on_head(verb)])
    except UserError:
        return ""
    return _told(said)


def _told(said: str) -> str:
    found = re.findall(r"^state: (.*?)\s*$", said, re.MULTILINE)
    return str(found[-1]) if found else ""


def _facts(folder: Path) -> dict[str, Any]:
    return {"cluster": str(folder / "cluster.yaml")}


def _check_sdk(profile: CloudProfile) -> None:
    """The cloud's package and somebody's credentials must be here. Raises UserError."""
    missing = [name for name in SDK[profile.provider] if importlib.util.find_spec(name) is None]
    if missing:
        packages = SDK_PACKAGES[profile.provider]
        raise UserError(f"'ray up' needs {', '.join(missing)} for {profile.provider}: pip install {packages}")
    if profile.provider == "gcp":
        path = Path(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or GOOGLE_KEYS).expanduser()
        if not path.is_file():
            raise UserError("no credentials for gcp: gcloud auth application-default login")
        return
    import boto3

    if boto3.Session().get_credentials() is None:
        raise UserError("no credentials for aws: aws configure, or AWS_PROFILE")


def _write_files(request: Request) -> None:
    """The token, new at each launch, and the environment of every process of Ray; both for their owner alone."""
    folder, path = request.folder, request.profile.environment
    write_private(folder / "token", secrets.token_hex(32))
    write_private(folder / "experiment.toml", request.experiment.read_text(encoding="utf-8"))
    own: Mapping[str, str] = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": "$HOME/cotuning-tune/token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "COTUNING_TUNE_NODES_S": "1800",  # machines are made and set up first
    }
    lines = [f'export {key}="{value}"' for key, value in own.items()]
    text = Path(path).expanduser().read_text(encoding="utf-8") if path else ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        name, value = check_setting(line.strip(), f"{path} line {number}")
        lines.append(f"export {name}={shlex.quote(value)}")
    write_private(folder / "environment", "\n".join(lines) + "\n")
