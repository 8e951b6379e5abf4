"""This machine with all its GPUs, in the background."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.hyper import hyper
from cotuning_tune.launch.backend import NOTHING_RUNS, Backend, Plan, Request
from cotuning_tune.launch.claim import CLAIMING, claim_of, claimed
from cotuning_tune.launch.record import Launch
from cotuning_tune.launch.tail import follow_file
from cotuning_tune.runs.lock import machine, started_at

STOP_S = 60.0
LOOK_S = 0.01


@dataclass(frozen=True)
class LocalProfile:
    """``python``: with cotuning_tune installed; ``cpus``: cores to use; ``gpus``: which GPUs, by number or UUID."""

    python: str = hyper("", doc="interpreter that has cotuning_tune; '': the one that launches")
    cpus: int = hyper(0, doc="cores to use; 0: all")
    gpus: tuple[int | str, ...] = hyper((), doc="GPUs to use, as [0, 1], or by UUID (CUDA_VISIBLE_DEVICES); []: all")


class LocalBackend(Backend):
    """A process of this machine that outlives the terminal."""

    Profile = LocalProfile

    def plan(self, request: Request) -> Plan:
        more = ["--num-cpus", str(request.profile.cpus)] if request.profile.cpus else []
        command = request.entry(request.profile.python or sys.executable, str(request.experiment.absolute()), *more)
        gpus = ",".join(map(str, request.profile.gpus))
        seen = ["env", f"CUDA_VISIBLE_DEVICES={gpus}"] if gpus else []
        return Plan({}, [[*seen, *command]])

    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        (command,), claim = plan.commands, claim_of(request.folder, request.attempt_name)
        if shutil.which(python := request.profile.python or sys.executable) is None:
            raise UserError(f"local.python: there is no program {python}", "python")
        studies = {"COTUNING_TUNE_OPTUNA_STORAGE": request.optuna_storage.reveal()}
        with (request.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", CLAIMING, str(claim), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(studies if request.optuna_storage else {})},
            )
        ended = False
        while (facts := _facts(request.folder, request.attempt_name)) is None:
            if ended:
                raise UserError(f"{claim} cannot be written: see the end of {request.folder / 'log'}")
            ended = process.poll() is not None
            time.sleep(LOOK_S)
        return facts

    def find(self, launch: Launch) -> dict[str, Any] | None:
        return _facts(launch.folder, launch.attempt_name)

    def _alive(self, launch: Launch) -> bool:
        facts = launch.facts
        return facts["machine"] == machine() and started_at(facts["pid"]) == facts["since"]

    def state(self, launch: Launch) -> str:
        return "running" if self._alive(launch) else "ended"

    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        path: Path = launch.folder / "log"
        yield from follow_file(path, (lambda: self._alive(launch)) if follow else (lambda: False))

    def stop(self, launch: Launch) -> str:
        if not self._alive(launch):
            return NOTHING_RUNS
        os.kill(launch.facts["pid"], signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while self._alive(launch) and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._alive(launch):
            os.killpg(launch.facts["pid"], signal.SIGKILL)
            return f"did not end within {STOP_S:.0f} s and was killed; nothing is lost"
        return "stopped cleanly; nothing is lost"


def _facts(folder: Path, attempt: str) -> dict[str, Any] | None:
    """The process that has the claim: its number, when it started, and of which boot and container that is said."""
    if not (found := claimed(folder, attempt)):
        return None
    pid, since, where = [*found.split(maxsplit=2), "", ""][:3]  # a system without /proc knows the first alone
    return {"pid": int(pid), "since": since, "machine": where}
