"""A file is a method, a data set or a family of backbones: found by name, imported when used.

There is no registry and no list to edit. Files whose name starts with an underscore do not count.
"""

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from cotuning_tune.base.errors import unknown


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
    module = importlib.import_module(f"{package.__name__}.{name}")
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
