"""A Ray cluster that runs already, through its Jobs API."""

import asyncio
import json
import os
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.names import check_setting
from cotuning_tune.hyper import hyper
from cotuning_tune.launch.backend import ENDS, NOTHING_RUNS, Backend, Plan, Request, Unsure
from cotuning_tune.launch.profile import check_absolute
from cotuning_tune.launch.record import Launch, private_folder, write_private

EVERY_S = 0.5
MOST_BYTES = 100 << 20
OWN_DEFAULT = "~/.ray/auth_token"  # where Ray's own tools look
OTHERS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # the client would prefer them to the address that it is given
STATES = {"PENDING": "queued", "RUNNING": "running", "SUCCEEDED": "done", "STOPPED": "unfinished"}


@dataclass(frozen=True)
class SubmitProfile:
    """The cluster's nodes have the package installed; the experiment travels with the job."""

    address: str = hyper("http://127.0.0.1:8265", doc="of the dashboard, or this end of a tunnel to it")
    token_path: str = hyper("", doc="file with the cluster's token; '': RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token")
    python: str = hyper("python", doc="interpreter on the cluster that has cotuning_tune")
    working_dir: str = hyper("", doc="folder that travels along, the experiment in it; '': the experiment alone")
    excludes: tuple[str, ...] = hyper(("data", "runs", ".*", "__pycache__"), doc="names in it that stay here")
    env: tuple[str, ...] = hyper((), doc="environment of driver and trials: ['NAME=VALUE']")
    nodes: int = hyper(0, doc="wait until the cluster has so many; 0: take what is there")
    require_token: bool = hyper(True, doc="refuse a cluster that asks for no token")
    stop_s: int = hyper(60, doc="seconds that the driver may take to end cleanly")


class SubmitBackend(Backend):
    """A job with the attempt's name; the driver runs on the cluster's head."""

    Profile = SubmitProfile

    def check(self, request: Request) -> None:
        profile = request.profile
        check_absolute(profile, "submit", "token_path", "working_dir")
        if not profile.address.startswith(("http://", "https://")):
            raise UserError(f"submit.address = {profile.address}: the dashboard's, as http://127.0.0.1:8265", "address")
        for setting in profile.env:
            check_setting(setting, f"submit.env: '{setting}'")
        _inside(request)

    def plan(self, request: Request) -> Plan:
        job = json.dumps(_job(request), indent=2) + "\n"
        return Plan({"job.json": job}, [["POST", f"{request.profile.address}/api/jobs/"]])

    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        job, folder = json.loads(plan.files["job.json"]), _staged(request)
        with _client(request.profile.address, request.profile.token_path) as client:
            job["runtime_env"]["working_dir"] = str(folder)
            _submit(client, job, request)
        return {"job": request.attempt_name}

    def find(self, launch: Launch) -> dict[str, Any] | None:
        with _of(launch) as client:
            return {"job": launch.attempt_name} if _info(client, launch.attempt_name) else None

    def state(self, launch: Launch) -> str:
        try:
            with _of(launch) as client:
                info = _info(client, launch.facts["job"])
        except UserError as problem:
            return f"unknown ({problem})"
        if info is None:
            return "gone: the cluster knows no such job"
        code = info.driver_exit_code
        known = ENDS.get(str(code)) or STATES.get(str(info.status))
        return known or ("killed" if code is None else f"failed (exit code {code})")

    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        with _of(launch) as client:
            while follow and str(client.get_job_status(launch.facts["job"])) == "PENDING":
                time.sleep(EVERY_S)
            if follow:
                yield from _each(client.tail_job_logs(launch.facts["job"]))
            else:
                yield client.get_job_logs(launch.facts["job"])

    def stop(self, launch: Launch) -> str:
        """Ray sends SIGTERM, and SIGKILL where the driver has not ended within ``stop_s`` (3 s by Ray's default)."""
        seconds, began = launch.profile["stop_s"], time.monotonic()
        with _of(launch) as client:
            info = _info(client, launch.facts["job"])
            if info is None or info.status.is_terminal():
                return NOTHING_RUNS
            client.stop_job(launch.facts["job"])
            while not client.get_job_status(launch.facts["job"]).is_terminal():
                if time.monotonic() - began > seconds + 30:
                    raise UserError(f"the job {launch.facts['job']} does not end: see the cluster's dashboard")
                time.sleep(EVERY_S)
        if time.monotonic() - began > seconds:
            return f"the driver did not end within {seconds} s and was killed; nothing is lost"
        return "stopped cleanly; nothing is lost"


def _inside(request: Request) -> str:
    """The experiment's path in the job's folder. Raises UserError where it lies outside the working_dir."""
    if not request.profile.working_dir:
        return request.experiment.name
    folder = Path(request.profile.working_dir).expanduser().resolve()
    try:
        return str(request.experiment.resolve().relative_to(folder))
    except ValueError:
        raise UserError(f"submit.working_dir = {folder}: {request.experiment} lies outside it", "working_dir") from None


def _job(request: Request) -> dict[str, Any]:
    """What is submitted, less the folder and the id."""
    profile = request.profile
    more = ["--require-token"] if profile.require_token else []
    command = request.entry(profile.python, _inside(request), "--nodes", str(profile.nodes), *more)
    studies = (
        'chmod 600 optuna_storage.url; export COTUNING_TUNE_OPTUNA_STORAGE="$(cat optuna_storage.url)"; '
        if request.optuna_storage
        else ""
    )
    env = dict(setting.split("=", 1) for setting in profile.env)
    env["RAY_JOB_STOP_WAIT_TIME_S"] = str(profile.stop_s)
    return {
        "entrypoint": f'{studies}exec {shlex.join(command)} --address "$RAY_ADDRESS"',
        "runtime_env": {"env_vars": env},
        "metadata": {"run": f"{request.storage}/{request.name}"},
    }


def _staged(request: Request) -> Path:
    """The job's folder, made anew: the working_dir without what stays here, or the experiment alone."""
    folder, profile = request.folder / "job", request.profile
    if folder.exists():
        shutil.rmtree(folder)
    if profile.working_dir:
        source = Path(profile.working_dir).expanduser()
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*profile.excludes))
    private_folder(folder)
    inside = folder / _inside(request)
    inside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(request.experiment, inside)
    if request.optuna_storage:
        write_private(folder / "optuna_storage.url", request.optuna_storage.reveal())
    if (size := sum(path.stat().st_size for path in folder.rglob("*"))) > MOST_BYTES:
        raise UserError(
            f"submit.working_dir: {size >> 20} MiB would travel with the job, {MOST_BYTES >> 20} at most:"
            " name what stays here (submit.excludes)"
        )
    return folder


def _submit(client: Any, job: dict[str, Any], request: Request) -> None:
    """Submit it where it has not been. Raises Unsure where the cluster did not answer, or failed meanwhile."""
    try:
        client.submit_job(**job, submission_id=request.attempt_name)
    except (RuntimeError, OSError) as problem:
        if "already exists" in str(problem):
            return
        if isinstance(problem, RuntimeError) and "status code 5" not in str(problem):
            raise
        where, said = request.profile.address, first_line(problem)
        raise Unsure(
            f"the cluster at {where} was lost while the job was sent ({said}): launch status looks for it"
        ) from None


def _info(client: Any, job: str) -> Any:
    """What the cluster knows of a job; None of one that it does not know, as after it has been started anew."""
    try:
        return client.get_job_info(job)
    except RuntimeError as problem:
        if "status code 404" not in str(problem):
            raise
        return None


def _token(path: str) -> tuple[str, str]:
    """The token and its file, '' where none is named. Raises UserError where the named one cannot be read."""
    file = Path(path or os.environ.get("RAY_AUTH_TOKEN_PATH") or OWN_DEFAULT).expanduser()
    try:
        return file.read_text(encoding="utf-8").strip(), str(file)
    except OSError as problem:
        if path:
            raise UserError(f"submit.token_path = {path} cannot be read: {problem.strerror}", "token_path") from None
        return "", ""


@contextmanager
def _client(address: str, token_path: str) -> Iterator[Any]:
    """A client of the Jobs API; what goes wrong with it is a UserError."""
    token, file = _token(token_path)
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise UserError("the backend 'submit' needs ray[default] on this machine: pip install 'ray[default]'") from None
    before = {name: os.environ.pop(name) for name in OTHERS if name in os.environ}
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        yield JobSubmissionClient(address, headers=headers)
    except AuthenticationError as problem:
        if first_line(problem).startswith("Authentication required"):
            raise UserError(f"the cluster at {address} asks for a token: name its file (token_path)") from None
        raise UserError(f"the cluster at {address} refuses the token in {file or 'the environment'}") from None
    except (OSError, KeyError, ValueError):
        raise UserError(
            f"no Ray cluster answers at {address}: start one (its head needs ray[default]), or open the tunnel to it"
        ) from None
    except RuntimeError as problem:
        raise UserError(f"the cluster at {address}: {first_line(problem)}") from None
    finally:
        os.environ.update(before)


def _of(launch: Launch) -> Any:
    return _client(launch.profile["address"], launch.profile["token_path"])


def _each(pieces: AsyncIterator[str]) -> Iterator[str]:
    """The pieces of an asynchronous iterator, one after the other."""

    async def following() -> str | None:
        return await anext(pieces, None)

    with asyncio.Runner() as runner:
        while (piece := runner.run(following())) is not None:
            yield piece
