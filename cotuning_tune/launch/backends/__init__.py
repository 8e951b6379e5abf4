"""The backends of launching: a file each, found by its name."""

import sys

from cotuning_tune.base.discovery import find_class, first_line, module_names
from cotuning_tune.launch.backend import Backend


def backend_names() -> list[str]:
    """The names of all backends."""
    return module_names(sys.modules[__name__])


def backend_help(name: str) -> str:
    """What a backend is for, without importing it."""
    return first_line(sys.modules[__name__], name).rstrip(".").replace("`", "")


def backend(name: str) -> Backend:
    """The backend of that name. Raises UserError for none such."""
    made: Backend = find_class(sys.modules[__name__], name, Backend, "backend of launching")()
    return made
