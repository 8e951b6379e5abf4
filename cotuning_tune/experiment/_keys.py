"""The keys that an experiment can have, and where one belongs of which only the end is given."""

from collections.abc import Mapping
from typing import Any

from cotuning_tune import data, methods
from cotuning_tune.base.errors import UserError, first_three
from cotuning_tune.base.names import JOINT
from cotuning_tune.experiment._experiment import ExperimentConfig, Resources
from cotuning_tune.hyper import fields_of
from cotuning_tune.training import TrainConfig

TABLES = ("experiment", "task", "data", "train", "backbones", "methods", "resources")


def _keys(tables: Mapping[str, Any]) -> dict[tuple[str, ...], None]:
    """Every key that an experiment with these tables can have: of its own data sets, methods and variants."""
    known = ("experiment", "data", "methods")
    asked, given, own = (t if isinstance(t := tables.get(table), Mapping) else {} for table in known)
    listed = asked.get("methods")
    variants = {n: kind for n, t in own.items() if isinstance(t, Mapping) and (kind := t.get("method"))}
    parts = {part for name in listed for part in str(name).split(JOINT)} if isinstance(listed, list) else None
    formats = {task: t.get("format", task) for task, t in given.items() if isinstance(t, Mapping)}
    configs: dict[tuple[str, ...], type] = {
        ("experiment",): ExperimentConfig,
        ("task",): data.TaskConfig,
        ("resources",): Resources,
        ("train",): TrainConfig,
    }
    configs |= {("methods", m): methods.method(m).Config for m in methods.names() if parts is None or m in parts}
    configs |= {("methods", n): methods.method(kind).Config for n, kind in variants.items() if kind in methods.names()}
    configs |= {("data", task): data.data_set(f).Config for task, f in formats.items() if f in data.names()}
    return {(*where, *key.split("/")): None for where, config in configs.items() for key in fields_of(config)}


def homes_of(name: str, tables: Mapping[str, Any]) -> list[str]:
    """Where a key of this name belongs, as ``[table] name``; ``[table]`` where the name is that of a table."""
    homes = dict[str, None]()
    for *table, last in _keys(tables):
        if name in (last, table[-1]):
            where = f"[{'.'.join(table)}]"
            homes[f"{where} {name}" if last == name else where] = None
    return list(homes)


def whole_key(key: tuple[str, ...], tables: Mapping[str, Any]) -> tuple[str, ...]:
    """A key by its end, as ``trials`` or ``optim.lr``, with the tables that it stands in.

    Raises UserError where several keys end so.
    """
    found = [] if key[0] in TABLES else [one for one in _keys(tables) if one[-len(key) :] == key]
    if len(found) > 1:
        named = first_three([".".join(one) for one in found])
        raise UserError(f"--set {'.'.join(key)} can be {len(found)} keys: say which, as {named}")
    return found[0] if found else key
