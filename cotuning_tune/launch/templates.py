"""The templates and profiles of the top-level folder ``launch/``, which users read and edit."""

import string
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.base.shipped import shipped


class _Text(string.Template):
    """Places are written ``@{name}``: shells and YAML use the dollar themselves."""

    pattern = r"@(?:\{(?P<braced>[a-z_]+)\}|(?P<escaped>(?!))|(?P<named>(?!))|(?P<invalid>(?!)))"  # type: ignore[assignment]


def launch_files() -> Path:
    """The folder of the templates and profiles."""
    return shipped("launch")


def render(name: str, values: dict[str, Any], folder: str = "") -> str:
    """A template with its places filled; from ``folder`` where the user has an own one there. Raises UserError."""
    own = Path(folder).expanduser() / name if folder else None
    path = own if own and own.exists() else launch_files() / name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise UserError(f"the template {path} cannot be read: {problem.strerror}") from None
    try:
        return _Text(text).substitute({key: str(value) for key, value in values.items()})
    except KeyError as problem:
        raise unknown(f"value for the template {path.name}", str(problem.args[0]), values) from None
