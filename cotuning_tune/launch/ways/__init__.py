"""The ways of launching: a file each, found by its name."""

import sys

from cotuning_tune.base.discovery import find_class, first_line, module_names
from cotuning_tune.launch.way import Way


def way_names() -> list[str]:
    """The names of all ways."""
    return module_names(sys.modules[__name__])


def way_help(name: str) -> str:
    """What a way is for, without importing it."""
    return first_line(sys.modules[__name__], name).rstrip(".").replace("`", "")


def way(name: str) -> Way:
    """The way of that name. Raises UserError for none such."""
    made: Way = find_class(sys.modules[__name__], name, Way, "way of launching")()
    return made
