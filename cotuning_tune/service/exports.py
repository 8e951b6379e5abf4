"""Models of ended runs, exported by a child process into the run's folder; what became of it stands beside them."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import unknown
from cotuning_tune.base.files import is_local, place, write_json
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import started_at
from cotuning_tune.service.asked import Runs
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem, TooMany, Unknown, WrongState
from cotuning_tune.service.store import audit

FORMATS = ("safetensors", "torchscript", "onnx", "timm", "torchvision", "transformers")
MOST = 2  # at a time
LOCK = threading.Lock()


class Exports:
    """The verbs on exports. An export is a folder ``service-FORMAT`` below the run's ``export``, and a note of it."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def begin(self, actor: Actor, identity: str, kind: str) -> dict[str, Any]:
        """Export the model that the report says to take; asking again while it works, or after it, starts nothing.

        Raises Problem for an unknown format, WrongState before the run is done, TooMany, Unknown, Refused.
        """
        if kind not in FORMATS:
            raise Problem(str(unknown("format", kind[:40], FORMATS)), key="format")
        run = self.runs.get(actor, identity)
        actor.check_changes(run)
        folder = _folder(run)
        if run["state"] != "done":
            raise WrongState(f"{run['name']} is {run['state']}", "a model is exported once the run is done")
        with LOCK:
            if (found := _state(folder, kind)) and found["state"] in ("running", "done"):
                return found
            if sum(one["state"] == "running" for one in self.listed(actor, identity)) >= MOST:
                raise TooMany(f"{MOST} exports are being made", "wait for one of them")
            _start(folder, kind)
        with self.runs.store.writing() as connection:
            audit(connection, self.runs.now(), actor.name, "export", identity, format=kind)
        return _state(folder, kind) or {}

    def listed(self, actor: Actor, identity: str) -> list[dict[str, Any]]:
        """Each export of a run: ``format``, ``state`` (running, done, failed), ``files``, ``reason``."""
        folder = _folder(self.runs.get(actor, identity))
        return [found for kind in FORMATS if (found := _state(folder, kind))]

    def file(self, actor: Actor, identity: str, kind: str, name: str) -> Path:
        """A file of an export. Raises Unknown for what is none."""
        folder = _folder(self.runs.get(actor, identity))
        found = _state(folder, kind) if kind in FORMATS else None
        if found is None or name not in found["files"]:
            raise Unknown(f"there is no file {name[:100]!a} of that export")
        return _out(folder, kind) / name


def _folder(run: dict[str, Any]) -> RunDir:
    folder = place(run["folder"])
    if not is_local(folder):
        raise Problem(f"{run['name']} lies in an object store", "export it where its command line runs")
    return RunDir(folder)


def _out(run: RunDir, kind: str) -> Path:
    return run.exports / f"service-{kind}"


def _note(run: RunDir, kind: str) -> Path:
    return run.exports / f"service-{kind}.json"


def _state(run: RunDir, kind: str) -> dict[str, Any] | None:
    """How far an export is; None where there is none."""
    try:
        noted = json.loads(_note(run, kind).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    log = _note(run, kind).with_suffix(".log")
    out, lives = _out(run, kind), started_at(noted["pid"]) == noted["since"]
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and not p.is_symlink())
    state = "running" if lives else "done" if files else "failed"
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1] if log.exists() else ""
    reason = last.removeprefix("cotuning-tune: ") or "it was killed"
    files = files if state == "done" else []
    return {"format": kind, "state": state, "files": files, "reason": reason if state == "failed" else ""}


def _start(run: RunDir, kind: str) -> None:
    """Start the command, which makes its folder whole or not at all."""
    note = _note(run, kind)
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = ["export", str(run.path), "--format", kind, "--out", str(_out(run, kind))]
    with note.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cotuning_tune.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
    write_json(note, {"pid": child.pid, "since": started_at(child.pid)})
    threading.Thread(target=child.wait, daemon=True).start()  # so that it does not stay as a zombie
