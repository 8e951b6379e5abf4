"""Reading from a run's storage where the launcher is, which may not reach it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from cotuning_tune.base.files import is_local, place


def text_there(address: str, find: Callable[[Path], Path] = lambda path: path) -> str | None:
    """The text at an address, or of the file that ``find`` names below it; None where there is none.

    None too where it is not reached from here: whoever asks does not wait.
    """
    try:
        path = place(address)
        if not is_local(path):
            cast(Any, path).fs.retries = 1  # a driver waits for hours, somebody who asks does not
        return find(path).read_text(encoding="utf-8")
    except Exception:  # no file, no credentials, no network: each store raises its own
        return None
