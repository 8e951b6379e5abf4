"""The tables of the database, brought up to date by Alembic's migrations."""

import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cotuning_tune.base.errors import UserError


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(engine: sa.Engine, *, migrate: bool) -> None:
    """Bring the tables to this version.

    SQLite's at once, after a copy was made beside it; PostgreSQL's where ``migrate``, for others may use it. Raises
    UserError where that is not asked for, and where a later version made them.
    """
    script = ScriptDirectory.from_config(_config())
    newest = script.get_current_head()
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found == newest:
        return
    if found and found not in {one.revision for one in script.walk_revisions()}:
        raise UserError(f"the database is of a later version ({found}): start that version of the service")
    if engine.dialect.name == "sqlite":
        if found:
            _copy(Path(str(engine.url.database)), found)
    elif found and not migrate:
        raise UserError(f"the database is of an earlier version ({found}): back it up, then serve --migrate")
    with engine.execution_options(writing=True).begin() as connection:
        command.upgrade(_config(connection), "head")


def _copy(path: Path, revision: str) -> None:
    kept = path.with_name(f"{path.name}.{revision}-{time.strftime('%Y%m%d-%H%M%S')}")
    kept.touch(mode=0o600)
    with sqlite3.connect(path) as old, sqlite3.connect(kept) as new:
        old.backup(new)
