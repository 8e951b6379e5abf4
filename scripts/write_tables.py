"""Write the parts of README and guides that follow from the code, between their marks.

python scripts/write_tables.py            write them
python scripts/write_tables.py --check    exit code 1 where a page says something else
"""

import re
import sys
from collections.abc import Callable
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from typing import Any

from cotuning_tune import data, methods
from cotuning_tune.base import discovery
from cotuning_tune.base.toml_text import inline
from cotuning_tune.experiment import ExperimentConfig, Resources
from cotuning_tune.hyper import Range, default_of, described, fields_of
from cotuning_tune.training import TrainConfig

ROOT = Path(__file__).parents[1]


def table_of_methods() -> str:
    """Every method with its line and its source."""
    rows = [
        f"| `{name}` | {discovery.first_line(methods, name).rstrip('.')} | {methods.method(name).source} |"
        for name in discovery.module_names(methods)
    ]
    return "\n".join(["| method | what it is | source |", "|---|---|---|", *rows])


def list_of_methods() -> str:
    """Every method's name, in a line."""
    return ", ".join(f"`{name}`" for name in discovery.module_names(methods))


def _toml(value: Any) -> str:
    """A value as an experiment file has it."""
    return f"`{inline(value).as_string()}`"


def _searched(search: Any) -> str:
    """The published range, or the options; '' where a field is pinned."""
    if search is None:
        return ""
    if isinstance(search, Range):
        return f"{_toml(search.low)} to {_toml(search.high)}{', log' * search.log}"
    return _toml(search.options)


def table_of_keys(config: type, where: str) -> str:
    """Every key of a table of the experiment file; nested ones as ``outer.inner``."""
    found = fields_of(config)
    ranges = any(item.metadata["search"] for item, _ in found.values())
    header = ["key", "takes", "default", *["searched in"] * ranges, "meaning"]
    rows = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for key, (item, hint) in found.items():
        default, facts = default_of(item), item.metadata
        columns = [f"`{key.replace('/', '.')}`", described(hint), "needed" if default is MISSING else _toml(default)]
        rows.append(f"| {' | '.join([*columns, *[_searched(facts['search'])] * ranges, facts['doc']])} |")
    return f"## {where}\n\n" + "\n".join(rows)


def tables_of_formats() -> str:
    """The keys of each format that reads data of one's own; the published sets have ``cotuning-tune data prepare``."""
    found = [name for name in data.names() if not data.data_set(name).counts]
    return "\n\n".join(
        table_of_keys(data.data_set(name).Config, f'[data.NAME] with format = "{name}"') for name in found
    )


def tables_of_method_keys() -> str:
    """The keys of each method that has any."""
    known = {name: methods.method(name).Config for name in methods.names()}
    return "\n\n".join(
        table_of_keys(config, f"[methods.{name}]") for name, config in known.items() if fields_of(config)
    )


TABLES = {"experiment": ExperimentConfig, "task": data.TaskConfig, "train": TrainConfig, "resources": Resources}
KEYS: dict[str, Callable[[], str]] = {
    **{name: partial(table_of_keys, config, f"[{name}]") for name, config in TABLES.items()},
    "formats": tables_of_formats,
    "methods": tables_of_method_keys,
}
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/methods.md": {"methods": table_of_methods},
    "docs/experiment-keys.md": KEYS,
    "README.md": {"methods": list_of_methods},
}


def written(page: str) -> str:
    """The text of a page with its parts as the code has them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, make in PARTS[page].items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?((?<=\n)<!-- end of {name} -->)", re.DOTALL)
        made = make()
        text, count = marks.subn(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)
        if count != 1:
            raise SystemExit(f"{page} has the marks of '{name}' {count} times")
    return text


def main() -> int:
    old = [page for page in PARTS if written(page) != (ROOT / page).read_text(encoding="utf-8")]
    if "--check" in sys.argv[1:]:
        for page in old:
            print(f"{page} is not what the code says: python scripts/write_tables.py")
        return int(bool(old))
    for page in old:
        (ROOT / page).write_text(written(page), encoding="utf-8")
        print(f"{page} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
