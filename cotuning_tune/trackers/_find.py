"""Trackers by name."""

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from cotuning_tune.base.discovery import Shelf
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local
from cotuning_tune.trackers._base import Tracker

SHELF = Shelf("tracker", "trackers", ("cotuning_tune.trackers",))
KEY = "experiment.track"


def tracker(name: str) -> type[Tracker]:
    """The class of a tracker; nothing of its tool is imported. Raises UserError where there is none of that name."""
    return cast(type[Tracker], SHELF.find(name, Tracker, KEY))


def check_names(names: Iterable[str]) -> None:
    """Raises UserError where there is no such tracker, or one is listed twice."""
    listed = list(names)
    if len(set(listed)) < len(listed):
        raise UserError(f"{KEY} lists something twice: {listed}", KEY)
    for name in listed:
        tracker(name)


def check_installed(names: Iterable[str], storage: Path) -> None:
    """Raises UserError where the tool of a tracker is not installed, or can keep nothing in an object store."""
    for name, kind in ((name, tracker(name)) for name in names):
        if find_spec(kind.package) is None:
            raise UserError(f"{KEY}: '{name}' needs another package: pip install '{kind.install}'", KEY)
        if not (is_local(storage) or os.environ.get(kind.variable)):
            raise UserError(f"{KEY}: '{name}' cannot keep its files in {storage}: set {kind.variable}", KEY)
