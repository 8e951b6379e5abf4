"""Moments of a process that tests make instead of waiting for them: see ``sitecustomize``."""

import os
from pathlib import Path


def at(folder: Path, function: str, action: str, call: int = 1) -> dict[str, str]:
    """The environment of processes that do ``action`` at that call of ``function``; ``folder`` counts the calls."""
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    return {
        "MOMENT": function,
        "MOMENT_DO": action,
        "MOMENT_AT": str(call),
        "MOMENT_FOLDER": str(folder),
        "PYTHONPATH": path,
    }


def reached(folder: Path) -> int:
    """How often the function has been called."""
    return (folder / "reached").stat().st_size if (folder / "reached").exists() else 0
