"""Moments of a process that tests make instead of waiting for them: see ``sitecustomize``."""

import json
import os
from pathlib import Path


def at(folder: Path, function: str, action: str, *calls: int, more: str = "[]") -> dict[str, str]:
    """The environment of processes that do ``action`` at those calls (the first) of ``function``.

    ``folder`` counts the calls; ``more``: $MOMENTS of another environment, whose moments are made too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    moment = {"function": function, "do": action, "at": calls or (1,), "folder": str(folder)}
    return {"MOMENTS": json.dumps([*json.loads(more), moment]), "PYTHONPATH": path}


def reached(folder: Path) -> int:
    """How often the function has been called."""
    return (folder / "reached").stat().st_size if (folder / "reached").exists() else 0
