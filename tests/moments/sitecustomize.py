"""Does something just before functions of the product are called, in every process that has this folder on its path.

``MOMENTS``: a JSON list. Of each moment ``function``, as ``package.module:Class.name``; ``do``: ``kill`` the process,
``wait`` until the file ``go`` is there, raise ``OSError`` or ``ValueError``, or ``count``; ``at``: at which calls,
counted over all processes (``wait``: also at those after the first); ``folder``: holds ``reached``, a byte a call, and
``go``.
``SECONDS_AHEAD``: how far this process's clock is ahead.

``tests.moments.at`` makes the environment.
"""

import functools
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def _act(moment: dict[str, Any]) -> None:
    folder, action, at = Path(moment["folder"]), moment["do"], moment["at"]
    with (folder / "reached").open("ab") as file:
        file.write(b".")
        file.flush()
        count = file.tell()
    if action == "wait":
        while count >= at[0] and not (folder / "go").exists():
            time.sleep(0.05)
    elif count in at and action == "kill":
        os._exit(9)
    elif count in at and action != "count":
        raise {"OSError": OSError, "ValueError": ValueError}[action]("made by the test")


def _wrap(module: ModuleType, moment: dict[str, Any]) -> None:
    owner: Any = module
    *outer, name = moment["function"].partition(":")[2].split(".")
    for part in outer:
        owner = getattr(owner, part)
    inner: Callable[..., object] = getattr(owner, name)

    @functools.wraps(inner)
    def acting(*arguments: object, **options: object) -> object:
        _act(moment)
        return inner(*arguments, **options)

    setattr(owner, name, acting)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules as everybody does, and wraps their functions once they have been executed."""

    def __init__(self, moments: list[dict[str, Any]]) -> None:
        self.waiting: dict[str, list[dict[str, Any]]] = {}
        for moment in moments:
            self.waiting.setdefault(moment["function"].partition(":")[0], []).append(moment)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if (moments := self.waiting.pop(name, None)) is None:
            return None
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for moment in moments:
                _wrap(module, moment)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "MOMENTS" in os.environ:
    sys.meta_path.insert(0, _Finder(json.loads(os.environ["MOMENTS"])))
if ahead := float(os.environ.get("SECONDS_AHEAD", 0)):
    _now, _now_ns = time.time, time.time_ns
    time.time = lambda: _now() + ahead
    time.time_ns = lambda: _now_ns() + int(ahead * 1e9)
