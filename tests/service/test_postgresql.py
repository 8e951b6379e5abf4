"""The service's database in PostgreSQL: the same tables, one service active, the audit whole, --migrate asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from cotuning_tune.base.errors import UserError
from cotuning_tune.service.asked import Submission
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.store import Store, broken_audit
from cotuning_tune.service.tables import META
from tests.servers import Database, postgresql_server
from tests.service.world import World, people_in, runs_in, settings_in

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgresql_server() as found:
        yield found


def test_a_run_goes_its_way(database: Database, tmp_path: Path) -> None:
    store, clock = Store(database), [1e9]
    people = people_in(store, ann="member")
    runs, world = runs_in(store, settings_in(tmp_path), lambda: clock[0]), World()
    reconciler = Reconciler(store, world, lambda: clock[0])
    first = runs.submit(people["ann"], Submission(experiment="", name="a"), "key")
    assert runs.submit(people["ann"], Submission(experiment="", name="a"), "key")["id"] == first["id"]
    for _ in range(8):
        reconciler.round()
        world.work(first["id"])
        clock[0] += 1
    assert runs.get(people["ann"], first["id"])["state"] == "done"
    assert [run["name"] for run in runs.listed(people["ann"], text="A")["runs"]] == ["a"]
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), META) == []
        assert broken_audit(connection) is None
    reconciler.stop()
    store.close()


def test_one_service_is_active(database: Database) -> None:
    first = Store(database)
    with pytest.raises(UserError, match="another service is active"):
        Store(database)
    first.close()
    Store(database).close()


def test_an_earlier_version_is_migrated_when_asked(database: Database) -> None:
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '0000'"))
    with pytest.raises(UserError, match="of a later version"):
        Store(database)  # a number that this version does not know
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '0001'"))
    engine.dispose()
    Store(database, migrate=True).close()
