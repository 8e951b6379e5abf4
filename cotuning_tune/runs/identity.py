"""Which run a folder is: an identity that it got when it was made, whatever it is called and wherever it lies since."""

import json
import secrets
import uuid
from collections.abc import Callable
from typing import TypedDict

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, place, read_json, write_json
from cotuning_tune.runs.folder import RunDir


class Identity(TypedDict):
    """``run.json``. ``studies``: what the names of the run's studies begin with; ``path``: where it was last driven."""

    id: str
    studies: str
    path: str


def read_identity(run: RunDir) -> Identity | None:
    """The identity of a run; None before it was made. Raises UserError where the file is damaged."""
    found: Identity | None = read_json(run.identity) if run.identity.exists() else None
    return found


def studies_prefix(run: RunDir) -> str:
    """What the names of the run's studies begin with; '' before it has an identity."""
    found = read_identity(run)
    return found["studies"] if found else ""


def make_identity(run: RunDir, name: str) -> None:
    """Give a run its identity, once: its studies bear its name and enough of its number to be nobody else's."""
    if not run.identity.exists():
        write_json(run.identity, new_identity(run, name))


def new_identity(run: RunDir, name: str) -> Identity:
    """An identity that no other run has."""
    number = str(uuid.uuid4())
    return {"id": number, "studies": f"{name}-{number[:8]}{secrets.token_hex(2)}", "path": str(run.path)}


def original_of(run: RunDir) -> RunDir | None:
    """The run that this folder is a copy of; None where it is the run itself, also when it was renamed or moved."""
    mine = read_identity(run)
    if mine is None or mine["path"] == str(run.path):
        return None
    other = RunDir(place(mine["path"]))
    try:
        theirs = json.loads(other.identity.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same_folder = is_local(run.path) and is_local(other.path) and other.path.samefile(run.path)
    return other if theirs.get("id") == mine["id"] and not same_folder else None


def settle(run: RunDir, say: Callable[[str], None]) -> None:
    """Before a driver works: note where the run lies now. Raises UserError for the copy of a run that is still there.

    Both would write into the same studies.
    """
    mine = read_identity(run)
    if mine is None or mine["path"] == str(run.path):
        return
    if other := original_of(run):
        raise UserError(
            f"{run.path} is a copy of {other.path}: give it an identity of its own first"
            f" (cotuning-tune migrate {run.path} --new-identity), or delete one of the two"
        )
    say(f"{run.path} is the run that was last driven as {mine['path']}: renamed or moved, it continues")
    write_json(run.identity, {**mine, "path": str(run.path)})
