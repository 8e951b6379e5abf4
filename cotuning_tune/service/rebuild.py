"""A database that is lost, restored from the runs' folders: each holds what the service knew (``service.json``)."""

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, place
from cotuning_tune.launch.record import read_launch
from cotuning_tune.service.drivers import NOTE, NOTED
from cotuning_tune.service.settings import Settings
from cotuning_tune.service.states import AT_WORK, ENDED
from cotuning_tune.service.store import Store, audit, tell
from cotuning_tune.service.tables import RUN, USER


def rebuild(store: Store, settings: Settings, now: float) -> tuple[list[str], list[str]]:
    """Take in every run below the storage that the database does not know; their folders, and what could not be read.

    Owners that are new become members. What was at work is looked at anew by the next round. Raises UserError for a
    storage that is not on this machine's disks.
    """
    if not is_local(place(settings.storage)):
        raise UserError(f"{settings.storage}: runs are taken in from folders of this machine's disks alone")
    taken, left = [], []
    for path in sorted(Path(settings.storage).glob(f"*/*/{NOTE}")):
        try:
            row = _row(path, settings, now)
        except (OSError, ValueError, KeyError, TypeError, UserError) as problem:
            left.append(f"{path.parent}: {problem}")
            continue
        if _take(store, row, now):
            taken.append(str(path.parent))
    return taken, left


def _row(path: Path, settings: Settings, now: float) -> dict[str, Any]:
    """A run's row, from its note and from the record of its launches."""
    found = json.loads(path.read_text(encoding="utf-8"))
    row = {name: found[name] for name in NOTED}
    owner, name = path.parent.parent.name, path.parent.name
    if (row["owner"], row["name"]) != (owner, name):
        raise UserError(f"its note is of {row['owner']}/{row['name']}: it was moved or copied")
    settings.backend(row["backend"])
    launched = read_launch(settings.root / "launches" / str(row["id"]))
    row["attempt"] = max(row["attempt"], launched.attempt if launched else 0)
    if row["state"] not in ENDED and row["state"] not in (*AT_WORK, "paused"):
        row["state"] = "queued"
    return row | {"folder": str(path.parent), "summary": {}, "changed": now, "since": now}


def _take(store: Store, row: dict[str, Any], now: float) -> bool:
    with store.writing() as connection:
        known = sa.or_(RUN.c.id == row["id"], RUN.c.folder == row["folder"])
        if connection.execute(sa.select(RUN.c.id).where(known)).first():
            return False
        if not connection.execute(sa.select(USER.c.name).where(USER.c.name == row["owner"])).first():
            connection.execute(USER.insert().values(name=row["owner"], role="member", created=now))
        connection.execute(RUN.insert().values(**row))
        tell(connection, now, row["id"], "taken in", {"name": row["name"], "owner": row["owner"]})
        audit(connection, now, "serve", "take in", row["id"], folder=row["folder"])
    return True
