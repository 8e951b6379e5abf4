"""Methods by name: a file of this folder, or several of them joined by ``+``."""

from typing import cast

from cotuning_tune.base import discovery
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.names import JOINT
from cotuning_tune.methods._base import Method
from cotuning_tune.methods._combined import combined


def names() -> list[str]:
    """The methods there are: the files of this folder."""
    from cotuning_tune import methods

    return discovery.module_names(methods)


def about(name: str) -> str:
    """What a method is, in a line: the first one of its file, and who published it."""
    from cotuning_tune import methods

    line, source = discovery.first_line(methods, name), method(name).source
    return f"{line.rstrip('.')} ({source})." if source else line


def method(name: str, key: str = "") -> type[Method]:
    """The class of a method; of ``a+b`` that of both together.

    Raises UserError with the ``key`` of the experiment file where there is no such method, or they do not combine.
    """
    from cotuning_tune import methods

    parts = name.split(JOINT)
    kinds = [cast(type[Method], discovery.find_class(methods, part, Method, "method", key)) for part in parts]
    if len(parts) == 1:
        return kinds[0]
    if len(set(parts)) < len(parts):
        raise UserError(f"the method '{name}' names one of its parts twice", key)
    if single := [part for part, kind in zip(parts, kinds, strict=True) if kind.alone]:
        raise UserError(f"the method '{name}' cannot be: {single[0]} does not combine with others", key)
    if len(ways := [part for part, kind in zip(parts, kinds, strict=True) if kind.variant]) > 1:
        raise UserError(f"the method '{name}' cannot be: {ways[0]} and {ways[1]} each say what is trained", key)
    return combined(name, tuple(kinds))
