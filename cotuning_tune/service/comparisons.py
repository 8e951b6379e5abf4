"""Runs side by side: which settings differ, and how far each is."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.toml_text import tables_of
from cotuning_tune.service import shown
from cotuning_tune.service.asked import Runs
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem, Unknown
from cotuning_tune.service.store import audit
from cotuning_tune.service.tables import COMPARISON

MOST = 20
SHOWN = ("id", "name", "owner", "state", "trials", "summary", "created")


def add(runs: Runs, actor: Actor, identities: Sequence[str]) -> dict[str, Any]:
    """A comparison of runs that he sees. Raises Problem for too few, too many or the same twice; Unknown."""
    actor.require("member")
    if not 2 <= len(set(identities)) == len(identities) <= MOST:
        raise Problem(f"{len(identities)} runs", f"2 to {MOST} different ones can be compared", key="runs")
    for identity in identities:
        runs.get(actor, identity)
    now, identity = runs.now(), secrets.token_hex(6)
    row = {"id": identity, "owner": actor.name, "runs": list(identities), "created": now}
    with runs.store.writing() as connection:
        connection.execute(COMPARISON.insert().values(**row))
        audit(connection, now, actor.name, "compare", identity, runs=list(identities))
    return row


def listed(runs: Runs, actor: Actor) -> list[dict[str, Any]]:
    """His own comparisons, the newest first, 200 at most."""
    query = sa.select(COMPARISON).where(COMPARISON.c.owner == actor.name).order_by(COMPARISON.c.created.desc())
    with runs.store.reading() as connection:
        return [dict(row) for row in connection.execute(query.limit(200)).mappings()]


def get(runs: Runs, actor: Actor, identity: str) -> dict[str, Any]:
    """A comparison: its runs with their studies, and ``differing``: settings by key, a value for each run.

    Raises Unknown where there is none, and where he does not see each of its runs.
    """
    with runs.store.reading() as connection:
        row = connection.execute(sa.select(COMPARISON).where(COMPARISON.c.id == identity)).mappings().first()
    try:
        found = [runs.get(actor, one) for one in row["runs"]] if row else []
    except Unknown:
        row = None
    if row is None:
        raise Unknown(f"there is no comparison {identity[:40]!a}")
    return {
        **row,
        "runs": [{**{name: run[name] for name in SHOWN}, "studies": shown.studies(run)} for run in found],
        "differing": differing(found),
    }


def differing(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Settings by key in which runs differ, a value for each run, None where its experiment does not say."""
    settings = [_settings(run) for run in runs]
    found = {key: [one.get(key) for one in settings] for key in sorted({key for one in settings for key in one})}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an experiment, dotted; none of one that cannot be read. An extended run has its present trials."""
    extended = {"experiment.trials": run["trials"]} if run["trials"] else {}
    try:
        return dict(_dotted(tables_of(run["experiment"]), "")) | extended
    except UserError:
        return extended


def _dotted(table: Mapping[str, Any], start: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _dotted(value, f"{start}{key}.")
        else:
            found.append((f"{start}{key}", value if isinstance(value, bool | int | float | list) else str(value)))
    return found
