"""Hyper-parameters as dataclass fields: a default, and where it is searched a range or a choice.

Three rules turn a table of an experiment file into a search space: a value pins, a list chooses,
a table with ``low`` and ``high`` searches. An absent key keeps what stands on the field.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cotuning_tune.base.errors import UnknownKeyError, UserError, unknown


@dataclass(frozen=True)
class Range:
    """All numbers between ``low`` and ``high``, both included; ``log``: uniform in the logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, not {self.low}")

    def nearest(self, value: float) -> float:
        """``value`` itself, or the end of the range that lies nearest to it."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of the listed options."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError("a list to choose from is empty")

    def nearest(self, value: Any) -> Any:
        """``value`` itself, or the nearest number among the options, or the first option."""
        if value in self.options:
            return value
        numbers = [o for o in self.options if isinstance(o, (int, float))]
        if isinstance(value, (int, float)) and len(numbers) == len(self.options):
            return min(numbers, key=lambda option: abs(option - value))
        return self.options[0]


Search = Range | Choice


def hyper(default: Any, search: Search | None = None, *, neutral: Any = None, path: bool = False, doc: str = "") -> Any:
    """A dataclass field with its default, its range, and the value ``neutral`` at which its effect vanishes.

    ``path``: the value is a path; in an experiment file it is relative to the file's folder.
    """
    return field(default=default, metadata={"search": search, "neutral": neutral, "path": path, "doc": doc})


def fields_of(config_type: type) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Every field of a config class with its resolved type; nested configs give keys ``outer/inner``."""
    hints = typing.get_type_hints(config_type)
    found: dict[str, tuple[dataclasses.Field[Any], Any]] = {}
    for item in dataclasses.fields(config_type):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            inner = fields_of(typing.cast(type, hint))
            found.update({f"{item.name}/{key}": value for key, value in inner.items()})
        else:
            found[item.name] = (item, hint)
    return found


def default_of(item: dataclasses.Field[Any]) -> Any:
    """The published default of a field; ``MISSING`` where it has none."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def convert(value: Any, hint: Any, where: str) -> Any:
    """``value`` as the field's type, or a UserError that names the type; numbers never pass as flags."""
    options = _options(hint)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UserError(f"{where}: a whole number has 64 bits, not {value.bit_length() + 1}", where)
    for option in options:
        origin = typing.get_origin(option)
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if option is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return value
            if len(options) > 1:
                continue
            raise unknown(f"value for {where}", str(value), map(str, typing.get_args(option)), where)
        if origin is tuple and isinstance(value, (list, tuple)):
            inner = typing.get_args(option)[0]
            return tuple(convert(part, inner, where) for part in value)
        if option in (int, str, bool, type(None)) and type(value) is option:
            return value
    raise UserError(f"{where} = {value!r}: {described(hint)} is needed", where)


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def described(hint: Any) -> str:
    """What a field of this type takes, in words."""
    return " or ".join(_type_name(option) for option in _options(hint))


def _type_name(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(option)))
    if typing.get_origin(option) is tuple:
        return "a list"
    words = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
    return words.get(option, str(option))


@dataclass(frozen=True)
class Parameter:
    """What an experiment does with one field: a pinned ``value``, or a ``search`` with its default."""

    value: Any
    search: Search | None = None
    neutral: Any = None

    @property
    def first(self) -> Any:
        """The published default, moved into the range where it lies outside."""
        return self.value if self.search is None else self.search.nearest(self.value)

    @property
    def neutral_point(self) -> Any:
        """The neutral value, or the value of the range nearest to it."""
        if self.neutral is None or self.search is None:
            return self.first
        return self.search.nearest(self.neutral)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The pin, both ends of the range, or every option: what the config class must accept."""
        if self.search is None:
            return (self.value,)
        return (self.search.low, self.search.high) if isinstance(self.search, Range) else self.search.options


Space = dict[str, Parameter]


def read_space(config_type: type, table: Mapping[str, Any], where: str) -> Space:
    """The space of a config class after the overrides of a (nested) table of an experiment file.

    Raises UserError for an unknown key (naming the known ones), a wrong type, an impossible range.
    """
    known = fields_of(config_type)
    if not isinstance(table, Mapping):
        raise UserError(f"{where} = {table!r}: a table of keys is needed", where)
    given = _flatten(table, known, where)
    space: Space = {}
    for key, (item, hint) in known.items():
        default, search, neutral = default_of(item), item.metadata.get("search"), item.metadata.get("neutral")
        if key in given:
            default, search = _override(given[key], default, hint, f"{where}.{key.replace('/', '.')}")
        if default is dataclasses.MISSING:
            raise UserError(f"{where}.{key.replace('/', '.')} is missing: give it a value", where)
        space[key] = Parameter(default, search, neutral)
    return space


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One table of an experiment file laid over another; tables in both are joined, but for ranges."""
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping) and "low" not in {*value, *under}
        joined[key] = overlaid(under, value) if both and under is not None else value
    return joined


def _flatten(table: Mapping[str, Any], known: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    groups = {key.rsplit("/", 1)[0] for key in known if "/" in key}
    for key, value in table.items():
        if key in groups and isinstance(value, Mapping):
            inner = {k.removeprefix(f"{key}/"): v for k, v in known.items() if k.startswith(f"{key}/")}
            nested = _flatten(value, inner, f"{where}.{key}")
            flat.update({f"{key}/{k}": v for k, v in nested.items()})
        elif key in groups:
            raise UserError(f"{where}.{key} = {value!r}: a table of keys is needed", f"{where}.{key}")
        elif key in known:
            flat[key] = value
        else:
            raise UnknownKeyError(key, where, {k.split("/")[0] for k in known})
    return flat


def _override(value: Any, default: Any, hint: Any, where: str) -> tuple[Any, Search | None]:
    sequence = typing.get_origin(hint) is tuple
    try:
        if isinstance(value, Mapping):
            return default, _read_range(value, hint, where)
        if isinstance(value, list) and not (sequence and not any(isinstance(v, list) for v in value)):
            return default, Choice(tuple(convert(option, hint, where) for option in value))
    except ValueError as problem:
        raise UserError(f"{where}: {problem}", where) from None
    return convert(value, hint, where), None


def _read_range(value: Mapping[str, Any], hint: Any, where: str) -> Range:
    for key in value:
        if key not in ("low", "high", "log"):
            raise unknown(f"key in the range {where}", key, ("low", "high", "log"), where)
    if "low" not in value or "high" not in value:
        example = "{ low = 1e-4, high = 1e-2, log = true }"
        raise UserError(f"{where}: a range needs low and high, as {example}", where)
    options = _options(hint)
    if float not in options and int not in options:
        raise UserError(f"{where} is not a number: list its options, as [a, b], instead of a range", where)
    low, high = (convert(value[key], hint, f"{where}.{key}") for key in ("low", "high"))
    return Range(low, high, convert(value.get("log", False), bool, f"{where}.log"))


def build(config_type: type, values: Mapping[str, Any], where: str = "config") -> Any:
    """A config object from flat ``outer/inner`` values; strict: unknown keys and wrong types are errors."""
    known = fields_of(config_type)
    for key in values:
        if key not in known:
            raise UnknownKeyError(key, where, known)
    return _build(config_type, values, "", where)


def _build(config_type: type, values: Mapping[str, Any], prefix: str, where: str) -> Any:
    hints, given = typing.get_type_hints(config_type), {}
    for item in dataclasses.fields(config_type):
        key, hint = prefix + item.name, hints[item.name]
        if dataclasses.is_dataclass(hint):
            given[item.name] = _build(typing.cast(type, hint), values, f"{key}/", where)
        elif key in values:
            given[item.name] = convert(values[key], hint, f"{where}.{key.replace('/', '.')}")
    return config_type(**given)


def check_space(config_type: type, space: Space, where: str) -> Space:
    """The space itself. Raises UserError where the class refuses a pin, an end of a range or an option."""
    first = {key: parameter.first for key, parameter in space.items()}
    for key, parameter in space.items():
        for value in parameter.extremes:
            build(config_type, first | {key: value}, where)
    return space


def at_least(config: Any, where: str, **least: float) -> None:
    """Raises UserError where a field of a config lies below its least value, or is not a finite number."""
    for name, low in least.items():
        value = getattr(config, name)
        if not low <= value < float("inf"):
            raise UserError(f"{where}.{name} = {value}: at least {low:g} is needed", f"{where}.{name}")


def shares(config: Any, where: str, *names: str, whole: bool = True) -> None:
    """Raises UserError where a field of a config lies outside 0 to 1, or with ``whole = False`` is 1."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1 or (value == 1 and not whole):
            wanted = "from 0 to 1" if whole else "from 0 to below 1"
            raise UserError(f"{where}.{name} = {value}: {wanted} is needed", f"{where}.{name}")


def to_flat(config: Any) -> dict[str, Any]:
    """The flat ``outer/inner`` values of a config object; ``build`` makes an equal object from them."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat.update({f"{item.name}/{key}": inner for key, inner in to_flat(value).items()})
        else:
            flat[item.name] = list(value) if isinstance(value, tuple) else value
    return flat
