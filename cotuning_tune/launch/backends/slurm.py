"""A Slurm cluster: one job with a Ray cluster of its own, requeued until the run is done."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.hyper import at_least, hyper
from cotuning_tune.launch.backend import ENDS, NOTHING_RUNS, Backend, Plan, Request, Unsure
from cotuning_tune.launch.claim import claimed
from cotuning_tune.launch.record import Launch
from cotuning_tune.launch.tail import follow_file
from cotuning_tune.launch.templates import render

ASK_EVERY_S = 10.0
STOP_S = 120.0
ANSWER_S = 60.0
FIND_S = 120.0  # how long a job is looked for that sbatch may have submitted
LOOK_S = 5.0
UNSURE = re.compile(
    r"timed? ?out|unable to contact|zero bytes|communication|connection|transmi|exit code", re.IGNORECASE
)
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")


@dataclass(frozen=True)
class SlurmProfile:
    """What the job asks for, and what its nodes need before Python runs there."""

    python: str = hyper("", doc="interpreter on the nodes that has cotuning_tune; '': the one that launches")
    nodes: int = hyper(1, doc="nodes of the job")
    cpus: int = hyper(4, doc="cores on each node")
    gpus: int = hyper(0, doc="GPUs on each node")
    minutes: int = hyper(1440, doc="time limit of one start; an unfinished job goes back to the queue by itself")
    options: tuple[str, ...] = hyper((), doc="further options of sbatch: '--partition=gpu', '--mem=64G'")
    setup: tuple[str, ...] = hyper((), doc="shell lines before anything else: 'module load cuda'")
    container: str = hyper("", doc="words before every Python command: apptainer exec --nv IMAGE")
    network: str = hyper("", doc="interface by which the nodes reach each other: 'ib0'; '': their first address")
    scratch: str = hyper(  # nosec B108 # the job makes a folder of its own there, 0700
        "/tmp", doc="folder on the nodes' own disks for Ray's files; removed at the end"
    )
    warning: int = hyper(120, doc="seconds before the time limit at which the run is ended cleanly")
    requeues: int = hyper(100, doc="how often an unfinished job goes back to the queue by itself")
    templates: str = hyper("", doc="folder with a slurm/job.sbatch or slurm/node.sh of your own")

    def __post_init__(self) -> None:
        at_least(self, "slurm", nodes=1, cpus=1, gpus=0, minutes=1, warning=10, requeues=0)
        if 60 * self.minutes <= self.warning:
            problem = f"a time limit of {self.minutes} min is not longer than the warning before it ({self.warning} s)"
            raise UserError(f"slurm.minutes = {self.minutes}: {problem}: give more, or a shorter warning", "minutes")
        if wrong := [option for option in self.options if not option.isprintable()]:
            raise UserError(f"slurm.options: {wrong[0]!r} is more than one line", "options")
        try:
            shlex.split(self.container)
        except ValueError as problem:
            raise UserError(f"slurm.container = {self.container!r}: {str(problem).lower()}", "container") from None


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm. Raises UserError where it is missing or does not answer."""
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} is not found: a machine that submits to Slurm is needed")
    try:
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} timed out: no answer within {ANSWER_S:.0f} s") from None


def _order(*command: str) -> str:
    """What a command of Slurm printed. Raises UserError with its reason where it failed."""
    done = _ask(*command)
    if done.returncode:
        raise _refused(done)
    return done.stdout.strip()


def _refused(done: subprocess.CompletedProcess[str]) -> UserError:
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return UserError(f"{done.args[0]} refuses: {lines[0]}")


def _submitted(command: list[str], name: str) -> str:
    """The job's number. Raises UserError where Slurm refuses it, Unsure where it may have it all the same."""
    try:
        return _order(*command).partition(";")[0]
    except UserError as problem:
        if not UNSURE.search(str(problem)):
            raise
        reason = problem
    deadline = time.monotonic() + FIND_S
    while True:
        try:
            if job := _job_called(name):
                return job
        except UserError as problem:
            reason = problem
        if time.monotonic() > deadline:
            raise Unsure(f"{reason}; whether Slurm has the job is not known yet: launch status looks again")
        time.sleep(LOOK_S)


def _job_called(name: str) -> str:
    """The number of the job of that name, '' where Slurm knows none. Raises UserError where it does not answer."""
    if found := _order("squeue", "--noheader", f"--name={name}", "--format=%A").split():
        return found[0]
    if shutil.which("sacct") is None:
        return ""
    since = time.strftime("%Y-%m-%d", time.localtime(time.time() - 7 * 86400))
    done = _ask("sacct", "--noheader", "--parsable2", "-X", f"--name={name}", f"--starttime={since}", "--format=JobID")
    return "" if done.returncode else (done.stdout.split() or [""])[0]  # fails at a site without accounting


def _job(launch: Launch) -> str:
    """The job that drives the attempt, or will: who has the claim, of two that sbatch may have submitted."""
    found: str = claimed(launch.folder, launch.attempt_name) or launch.facts["job"]
    return found


def _option_lines(profile: SlurmProfile) -> str:
    options = ([f"--gres=gpu:{profile.gpus}"] if profile.gpus else []) + list(profile.options)
    return "\n".join(f"#SBATCH {option}" for option in options)


def _end_of(launch: Launch) -> str:
    """What the job wrote last; a killed one wrote nothing."""
    path: Path = launch.folder / "exit"
    code = path.read_text().strip() if path.exists() else ""
    return {"": "ended", **ENDS}.get(code, "failed")


def _lives(state: str) -> bool:
    return state.startswith(("queued", "running"))


class SlurmBackend(Backend):
    """``sbatch``, and the job's own exit code says whether it goes back to the queue."""

    Profile = SlurmProfile

    def check(self, request: Request) -> None:
        for where, path in (("--storage", request.storage), ("the launch's folder", str(request.folder))):
            if not path.isprintable() or '"' in path or "%" in path:
                raise UserError(f"{where} {path!r}: Slurm does not take quotes, percent signs or line breaks in it")

    def plan(self, request: Request) -> Plan:
        profile, folder = request.profile, request.folder
        prefix, python = shlex.split(profile.container), profile.python or sys.executable
        entry = request.entry(python, str(request.experiment.absolute()))
        values = {
            "name": request.attempt_name,
            "run": request.name,
            "nodes": profile.nodes,
            "cpus": profile.cpus,
            "minutes": profile.minutes,
            "warning": profile.warning,
            "patience": max(profile.warning // 2, 5),
            "requeues": profile.requeues,
            "options": _option_lines(profile),
            "output": f'"{folder / "log"}"',
            "setup": "\n".join(profile.setup),
            "folder": shlex.quote(str(folder)),
            "scratch": shlex.quote(profile.scratch),
            "network": shlex.quote(profile.network),
            "ray": shlex.join([*prefix, python, "-m", "ray.scripts.scripts"]),
            "entry": shlex.join([*prefix, *entry]),
        }
        files = {name: render(f"slurm/{name}", values, profile.templates) for name in ("job.sbatch", "node.sh")}
        return Plan(files, [["sbatch", "--parsable", str(folder / "job.sbatch")]])

    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        (request.folder / "exit").unlink(missing_ok=True)
        return {"job": _submitted(plan.commands[0], request.attempt_name)}

    def find(self, launch: Launch) -> dict[str, Any] | None:
        job = claimed(launch.folder, launch.attempt_name) or _job_called(launch.attempt_name)
        return {"job": job} if job else None

    def state(self, launch: Launch) -> str:
        job = _job(launch)
        done = _ask("squeue", "--noheader", f"--jobs={job}", "--format=%T %r")
        if done.returncode and "Invalid job id" not in done.stderr:  # Slurm forgets old jobs
            raise _refused(done)
        state, _, reason = done.stdout.strip().partition(" ")
        if not state:
            return _end_of(launch)
        return f"queued ({reason})" if state in WAITING else f"running ({state.lower()}, job {job})"

    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        asked, lives = float("-inf"), follow

        def goes_on() -> bool:
            nonlocal asked, lives
            if lives and time.monotonic() - asked >= ASK_EVERY_S:  # the controller serves a whole site
                asked, lives = time.monotonic(), _lives(self.state(launch))
            return lives

        path: Path = launch.folder / "log"
        yield from follow_file(path, goes_on)

    def stop(self, launch: Launch) -> str:
        job, state = _job(launch), self.state(launch)
        if not _lives(state):
            return NOTHING_RUNS
        if state.startswith("queued"):
            _order("scancel", job)
            return "taken from the queue; nothing is lost"
        _ask("scancel", "--batch", "--signal=USR2", job)  # refused where it is just ending
        deadline = time.monotonic() + STOP_S
        while _lives(state := self.state(launch)) and time.monotonic() < deadline:
            time.sleep(1)
        if not _lives(state):
            return "stopped cleanly; nothing is lost"
        _order("scancel", job)
        return f"did not end within {STOP_S:.0f} s and was cancelled; nothing is lost"
