"""Does something just before a function of the product is called, in every process that has this folder on its path.

``MOMENT``: the function, as ``package.module:Class.name``. ``MOMENT_DO``: ``kill`` the process, ``wait`` until the file
``go`` is there, or raise ``OSError`` or ``ValueError``. ``MOMENT_AT``: at which call, counted over all processes;
``wait`` also at those after it. ``MOMENT_FOLDER``: holds ``reached``, a byte a call, and ``go``.

``tests.moments.at`` makes the environment.
"""

import functools
import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

MODULE, _, ATTRIBUTE = os.environ.get("MOMENT", "").partition(":")


def _act() -> None:
    folder, action, at = (os.environ[f"MOMENT_{name}"] for name in ("FOLDER", "DO", "AT"))
    with (Path(folder) / "reached").open("ab") as file:
        file.write(b".")
        file.flush()
        count = file.tell()
    if action == "wait":
        while count >= int(at) and not (Path(folder) / "go").exists():
            time.sleep(0.05)
    elif count == int(at) and action == "kill":
        os._exit(9)
    elif count == int(at):
        raise {"OSError": OSError, "ValueError": ValueError}[action]("made by the test")


def _wrap(module: ModuleType) -> None:
    owner: Any = module
    *outer, name = ATTRIBUTE.split(".")
    for part in outer:
        owner = getattr(owner, part)
    inner: Callable[..., object] = getattr(owner, name)

    @functools.wraps(inner)
    def acting(*arguments: object, **options: object) -> object:
        _act()
        return inner(*arguments, **options)

    setattr(owner, name, acting)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module as everybody does, and wraps its function once it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _wrap(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if MODULE:
    sys.meta_path.insert(0, _Finder())
