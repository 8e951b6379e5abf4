"""Looks at an experiment's text in a child process: what it asks for, what is wrong with it, what it may not.

The child is a fork of a process that has loaded what it takes, so a check takes a tenth of a second; it has two seconds
of a core and no more, whatever the text is made to do.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.service.asked import Checked
from cotuning_tune.service.problems import NotReady, Problem

CPU_S, WALL_S, LOADING_S = 2, 20.0, 300.0
MEMORY_BYTES = 4 << 30  # more than what is loaded
LOADED = ["cotuning_tune.experiment", "cotuning_tune.service.checker"]


class Checker:
    """Checks texts. ``data_roots``: the folders below which data may lie; relative paths are taken from the first."""

    def __init__(self, data_roots: tuple[Path, ...]) -> None:
        self.data_roots = data_roots
        self._context: Any = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
        if sys.platform != "win32":
            self._context.set_forkserver_preload(LOADED)
        self._warm = threading.Event()

    def start(self) -> None:
        """Load what a check takes, in the background."""
        threading.Thread(target=self._load, name="checker", daemon=True).start()

    def _load(self) -> None:
        with contextlib.suppress(Problem, NotReady):
            self._ask("", "a", LOADING_S)
        self._warm.set()

    def check(self, text: str, name: str) -> Checked:
        """What the experiment asks for. Raises Problem for a mistake, with its place; NotReady where no check ends."""
        if not self._warm.is_set():
            self._load()
        return self._ask(text, name, WALL_S)

    def _ask(self, text: str, name: str, seconds: float) -> Checked:
        ours, theirs = self._context.Pipe(duplex=False)
        child = self._context.Process(target=_check, args=(text, name, self.data_roots, theirs), daemon=True)
        child.start()
        theirs.close()
        try:
            found: dict[str, Any] = ours.recv() if ours.poll(seconds) else {}
        except EOFError:
            found = {}
        finally:
            child.kill()
            child.join()
            ours.close()
        if not found:
            raise NotReady("this experiment could not be checked in time", "make it smaller, or try again")
        if problem := found.get("problem"):
            raise Problem(problem, key=found["key"], line=found["line"])
        return Checked(**found)


def _check(text: str, name: str, data_roots: tuple[Path, ...], answer: Connection) -> None:
    """In the child: what ``Checked`` holds, or the problem with its place."""
    _limit()
    from cotuning_tune.base.toml_text import line_of

    try:
        found = _found(text, name, data_roots)
    except UserError as problem:
        with contextlib.suppress(Exception):
            keys = tuple(problem.key.split(".")) if problem.key else ()
            found = {"problem": str(problem), "key": problem.key, "line": (line_of(text, keys) if keys else 0) or 0}
    except RecursionError:
        found = {"problem": "the experiment is nested too deeply", "key": "", "line": 0}
    with contextlib.suppress(OSError):  # a service that was killed meanwhile wants no answer
        answer.send(found)


def _limit() -> None:
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    size = 0
    with contextlib.suppress(OSError, IndexError, ValueError):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES,) * 2)


def _found(text: str, name: str, data_roots: tuple[Path, ...]) -> dict[str, Any]:
    from cotuning_tune.base.toml_text import set_key
    from cotuning_tune.experiment import parse

    experiment = parse(text, name, data_roots[0] if data_roots else Path("/nowhere"))
    config = experiment.config
    if config.on_end:
        raise UserError("experiment.on_end is a command on the service's machines: leave it out", "experiment.on_end")
    for key, path in experiment.paths.items():
        text = set_key(text, tuple(key.split(".")), str(_allowed(key, path, data_roots)))
    for name in experiment.backbones:
        if (folder := name.removeprefix("hf/")) != name and (os.sep in folder or Path(folder).exists()):
            _allowed("experiment.backbone", Path(folder), data_roots)
    share = experiment.resources.share
    studies = len(experiment.studies)
    content: Mapping[str, object] = {
        "name": name,
        "tasks": list(config.tasks),
        "methods": list(config.methods),
        "studies": [study.name for study in experiment.studies],
        "seeds": len(experiment.seeds),
        "trainings": studies * (experiment.trials + experiment.confirmations + len(experiment.seeds)),
        "gpu_per_trial": 1.0 if share < 0 else share,
        "cpu_per_trial": experiment.resources.cpu_per_trial,
    }
    return {
        "trials": experiment.trials,
        "gpus": max(1.0 if share < 0 else share, 0.01),
        "cpus": float(experiment.resources.cpu_per_trial),
        "text": text,
        "hours": config.hours,
        "content": content,
    }


def _allowed(key: str, path: Path, data_roots: tuple[Path, ...]) -> Path:
    """The path without links. Raises UserError unless it lies below a data root; is it there, only then."""
    if not data_roots:
        raise UserError(f"{key}: this service reads no folders of data: ask its admin for service.data_roots", key)
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in data_roots):
        below = ", ".join(map(str, data_roots))
        raise UserError(f"{key}: the data of this service lie below {below}", key)
    if not real.exists():
        raise UserError(f"{key}: {real} is not there", key)
    return real
