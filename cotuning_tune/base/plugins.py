"""Plug-ins: what installed packages add by entry points; found without importing any of them.

An entry point of the group ``cotuning_tune.methods`` (``datasets``, ``backbones``, ``trackers``) gives one a name.
"""

import functools
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cotuning_tune.base.errors import UserError, first_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """One entry point, of an installed ``package``. ``refused``: why it is left out before it is imported, else ''."""

    point: EntryPoint
    package: str
    version: str
    refused: str = ""

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def origin(self) -> str:
        """Package and version, for people."""
        return f"{self.package} {self.version}"

    def wrong(self, what: str, key: str = "") -> UserError:
        """The error that names this plug-in."""
        return UserError(f"the plug-in '{self.name}' of {self.origin} {what}", key)

    def load(self, key: str = "") -> Any:
        """What the entry point names, imported. Raises UserError where it is refused or cannot be imported."""
        if self.refused:
            raise self.wrong(self.refused, key)
        try:
            return self.point.load()
        except (Exception, SystemExit) as problem:  # whatever a stranger's module does at import
            what = f"cannot be imported: {type(problem).__name__}: {first_line(problem)}"
            raise self.wrong(what, key) from problem


@functools.cache
def _installed(group: str) -> tuple[Plugin, ...]:
    """Every entry point of a group, with its package; read once a process."""
    found = [
        Plugin(point, dist.name, dist.version)
        for point in entry_points(group=f"cotuning_tune.{group}")
        if (dist := point.dist) is not None
    ]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.origin)))


@functools.cache
def _warn(line: str) -> None:
    """Once a process."""
    log.warning(line)


def plugins(group: str, own: Collection[str]) -> dict[str, Plugin]:
    """The plug-ins of a group by name; none is imported. One with a name of ``own`` or of another one is refused."""
    found: dict[str, Plugin] = {}
    for plugin in _installed(group):
        refused = "is left out: its name is that of a built-in one" if plugin.name in own else ""
        if other := found.get(plugin.name):
            refused = f"has the name of one of {other.origin}: uninstall one of the two packages"
        found[plugin.name] = Plugin(plugin.point, plugin.package, plugin.version, refused)
    return found


def warn_of(plugin: Plugin | None) -> None:
    """Say once that a plug-in was left out, where the built-in thing of its name is used."""
    if plugin and plugin.refused:
        _warn(str(plugin.wrong(plugin.refused)))


def broken(found: dict[str, Plugin], use: Callable[[str], object]) -> dict[str, str]:
    """By name why a plug-in cannot be used: refused, or ``use`` of its name raises UserError."""
    lines = {}
    for name, plugin in found.items():
        try:
            if plugin.refused:
                raise plugin.wrong(plugin.refused)
            use(name)
        except UserError as problem:
            lines[name] = str(problem)
    return lines
