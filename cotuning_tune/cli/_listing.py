"""The command for what there is: list. What was listed once is remembered: to import it all takes seconds."""

import argparse
import fnmatch
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.versions import installed
from cotuning_tune.cli._options import Commands, add_json, origin, usable
from cotuning_tune.cli._output import print_json

KINDS = {"methods": "method", "data": "data set", "models": "backbone", "experiments": "shipped experiment"}
GROUPS = {"methods": "methods", "data": "datasets", "models": "backbones"}
LIBRARIES = ("torch", "torchvision", "timm", "transformers")  # that what is listed comes from
Rows = list[dict[str, str]]


def add(commands: Commands) -> None:
    """The parser of the command."""
    listing = commands.add_parser(
        "list", help="list the methods, data sets, backbones or shipped experiments there are"
    )
    listing.add_argument("what", choices=list(KINDS))
    listing.add_argument(
        "pattern", nargs="?", default="", help="which names: 'resnet*'; timm's are listed for 'timm/*' only"
    )
    add_json(listing)
    listing.set_defaults(call=_list)


def _list(options: argparse.Namespace) -> int:
    rows, wrong = (
        _experiments(options.pattern) if options.what == "experiments" else _known(options.what, options.pattern)
    )
    if options.pattern and not rows and not wrong:
        raise UserError(f"no {KINDS[options.what]} matches '{options.pattern}'")
    if options.json:
        print_json({"what": options.what, "found": rows, "broken": wrong})
        return 0
    for row in rows:
        text = f"{row['about']} [{row['origin']}]" if row["origin"] else row["about"]
        print(f"{row['name']:<24}{text.strip()}".rstrip())
    for name, line in wrong.items():
        print(f"{name:<24}broken: {line}")
    return 0


def _experiments(pattern: str) -> tuple[Rows, dict[str, str]]:
    """The shipped experiments that match."""
    from cotuning_tune.base.shipped import about, shipped_experiments

    found = shipped_experiments()
    names = fnmatch.filter(found, pattern or "*")
    return [{"name": name, "about": about(found[name]), "origin": ""} for name in names], {}


def _known(what: str, pattern: str) -> tuple[Rows, dict[str, str]]:
    """The methods, data sets or backbones that match; and why plug-ins cannot be used, by name.

    Remembered in the cache, unless there are plug-ins: those may be in the making.
    """
    from cotuning_tune.base.plugins import plugins

    if f"cotuning_tune.{what}" in sys.modules or plugins(GROUPS[what], ()):
        return _found(what, pattern)
    from cotuning_tune.base.cache import cache_folder
    from cotuning_tune.base.files import write_bytes

    kept: Path | None = None
    with suppress(OSError, UserError, ValueError):  # no cache to use: it is found anew
        kept = cache_folder("lists") / f"{_key(what, pattern)}.json"
        if kept.exists():
            known: Rows = json.loads(kept.read_bytes())
            return known, {}
    rows, wrong = _found(what, pattern)
    if kept and not wrong:
        with suppress(OSError):
            write_bytes(kept, json.dumps(rows).encode(), durable=False)
    return rows, wrong


def _key(what: str, pattern: str) -> str:
    """Of all that a list depends on: the files of the room as they are, and the versions of the libraries."""
    from cotuning_tune.base.cache import content_key

    files = [(str(path), (found := path.stat()).st_mtime_ns, found.st_size) for path in _files(what)]
    return content_key(what, pattern, installed(LIBRARIES), files)


def _files(what: str) -> Iterator[Path]:
    """The files of a room, without importing it."""
    spec = importlib.util.find_spec(f"cotuning_tune.{what}")
    for home in spec.submodule_search_locations or () if spec else ():
        yield from sorted(Path(home).rglob("*.py"))


def _found(what: str, pattern: str) -> tuple[Rows, dict[str, str]]:
    package, models, wanted = importlib.import_module(f"cotuning_tune.{what}"), what == "models", pattern or "*"
    wrong = {name: line for name, line in package.broken().items() if fnmatch.fnmatch(name, wanted)}
    # timm's are so many that only a pattern of their own finds them
    found = package.names(pattern) if models else fnmatch.filter(package.names(), wanted)
    rows = [
        {"name": name, "about": "" if models else package.about(name), "origin": origin(package, name)}
        for name in usable(package, found, wrong)
    ]
    return rows, wrong
