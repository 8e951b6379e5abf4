"""How far a run's test ledger went, as its studies know it. A journal is read without Optuna: reports start fast."""

import json
from typing import cast

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import studies_prefix
from cotuning_tune.runs.ledger import Head

LEDGER = "test_ledger"  # an attribute of the run's first study


def kept_ledger_head(run: RunDir) -> Head | None:
    """What the studies know of the ledger's end; None where they know nothing.

    Raises UserError where their database cannot be read.
    """
    return _in_database(run) if run.optuna_storage_file.exists() else _in_journal(run)


def _in_journal(run: RunDir) -> Head | None:
    """The newest entry of a journal that sets it."""
    found: Head | None = None
    try:
        with run.journal.open("rb") as file:
            for line in file:
                if LEDGER.encode() in line:
                    found = _entry(line) or found
    except OSError:
        return None
    return found


def _entry(line: bytes) -> Head | None:
    try:
        return cast(Head | None, json.loads(line).get("user_attr", {}).get(LEDGER))
    except (ValueError, AttributeError):
        return None


def _in_database(run: RunDir) -> Head | None:
    from cotuning_tune.search.storage import close, read_storage, studies_in

    storage = read_storage(run)
    every = studies_in(storage, studies_prefix(run) or run.name) if storage else {}
    close(storage)
    return next((cast(Head, attrs[LEDGER]) for attrs in every.values() if attrs.get(LEDGER)), None)
