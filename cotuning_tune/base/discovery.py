"""A file is a method, a data set or a family of backbones: found by name, imported when used.

There is no registry and no list to edit. Files whose name starts with an underscore do not count. A plug-in is such a
file in an installed package, which an entry point of the file's name leads to.
"""

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cotuning_tune.base.errors import unknown
from cotuning_tune.base.plugins import Plugin, broken, plugins, warn_of


def module_names(package: ModuleType) -> list[str]:
    """Names of the package's modules without a leading underscore, sorted; imports none of them."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def find_class(package: ModuleType, name: str, base: type, kind: str, key: str = "") -> type:
    """The one subclass of ``base`` that module ``name`` of the package defines itself.

    Raises UserError (with ``key``) that names all modules where there is none of that name, TypeError where the
    module defines no such class or more than one.
    """
    if name not in module_names(package):
        raise unknown(kind, name, module_names(package), key)
    return _class_in(importlib.import_module(f"{package.__name__}.{name}"), base)


def _class_in(module: ModuleType, base: type) -> type:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__file__} must define one subclass of {base.__name__}, not {len(found)}")
    return found[0]


def first_line(package: ModuleType, name: str) -> str:
    """The first line of a module's docstring, read without importing it."""
    spec = importlib.util.find_spec(f"{package.__name__}.{name}")
    if spec is None or spec.origin is None:
        return ""
    with Path(spec.origin).open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').strip()


@functools.cache
def _files(homes: tuple[str, ...], _: tuple[tuple[str, ...], ...]) -> dict[str, ModuleType]:
    """By file the package that it stands in; listed anew where a package gets another folder."""
    packages = map(importlib.import_module, homes)
    return {name: package for package in packages for name in module_names(package)}


@dataclass(frozen=True)
class Shelf:
    """All that there is of a kind: the files of some packages here, and the plug-ins of a group of entry points."""

    kind: str
    group: str
    homes: tuple[str, ...]

    @property
    def own(self) -> dict[str, ModuleType]:
        """By file here the package that it stands in."""
        return _files(self.homes, tuple(tuple(importlib.import_module(home).__path__) for home in self.homes))

    @property
    def plugins(self) -> dict[str, Plugin]:
        """Every plug-in by name, also those that are refused."""
        return plugins(self.group, self.own)

    def plugin(self, name: str) -> Plugin | None:
        """The plug-in that a name means; None of what is built in."""
        return None if name in self.own else self.plugins.get(name)

    def names(self) -> list[str]:
        """What can be asked for, sorted; imports none of it."""
        return sorted([*self.own, *(name for name, plugin in self.plugins.items() if not plugin.refused)])

    def module(self, name: str, key: str = "") -> ModuleType:
        """The file of that name, imported. Raises UserError (with ``key``) for an unknown name or a broken plug-in."""
        if home := self.own.get(name):
            warn_of(self.plugins.get(name))
            return importlib.import_module(f"{home.__name__}.{name}")
        if (plugin := self.plugins.get(name)) is None:
            raise unknown(self.kind, name, self.names(), key)
        module = plugin.load(key)
        if not isinstance(module, ModuleType) or module.__name__.rpartition(".")[2] != name:
            raise plugin.wrong(
                f"must name a module called so: {name} = 'PACKAGE.{name}', not {plugin.point.value}", key
            )
        return module

    def find(self, name: str, base: type, key: str = "") -> type:
        """The one subclass of ``base`` that the file of that name defines; errors as those of ``module``."""
        module, plugin = self.module(name, key), self.plugin(name)
        try:
            return _class_in(module, base)
        except TypeError as problem:
            raise plugin.wrong(f"cannot be used: {problem}", key) if plugin else problem from None

    def about(self, name: str) -> str:
        """The first line of a file's docstring; nothing built in is imported for it."""
        if home := self.own.get(name):
            return first_line(home, name)
        return (self.module(name).__doc__ or "").strip().partition("\n")[0]

    def broken(self, use: Callable[[str], object]) -> dict[str, str]:
        """By name why a plug-in cannot be used; each is tried with ``use``."""
        return broken(self.plugins, use)
