"""Methods by name: a file of this folder or a plug-in, or several of them joined by ``+``."""

from typing import cast

from cotuning_tune.base.discovery import Shelf
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.names import JOINT
from cotuning_tune.base.plugins import Plugin
from cotuning_tune.methods._base import Method
from cotuning_tune.methods._combined import combined

SHELF = Shelf("method", "methods", ("cotuning_tune.methods",))


def names() -> list[str]:
    """The methods there are: the files of this folder, and plug-ins."""
    return SHELF.names()


def about(name: str) -> str:
    """What a method is, in a line: the first one of its file, and who published it."""
    line, source = SHELF.about(name), method(name).source
    return f"{line.rstrip('.')} ({source})." if source else line


def broken() -> dict[str, str]:
    """By name why a plug-in cannot be used."""
    return SHELF.broken(method)


def plugin(name: str) -> Plugin | None:
    """The plug-in that is a method; None of a built-in one."""
    return SHELF.plugin(name)


def method(name: str, key: str = "") -> type[Method]:
    """The class of a method; of ``a+b`` that of both together.

    Raises UserError with the ``key`` of the experiment file where there is no such method, or they do not combine.
    """
    parts = name.split(JOINT)
    kinds = [cast(type[Method], SHELF.find(part, Method, key)) for part in parts]
    if len(parts) == 1:
        return kinds[0]
    if len(set(parts)) < len(parts):
        raise UserError(f"the method '{name}' names one of its parts twice", key)
    if single := [part for part, kind in zip(parts, kinds, strict=True) if kind.alone]:
        raise UserError(f"the method '{name}' cannot be: {single[0]} does not combine with others", key)
    if len(ways := [part for part, kind in zip(parts, kinds, strict=True) if kind.variant]) > 1:
        raise UserError(f"the method '{name}' cannot be: {ways[0]} and {ways[1]} each say what is trained", key)
    return combined(name, tuple(kinds))
