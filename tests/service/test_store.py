"""The database: migrations, one active service, an audit that shows when it was changed; people and their tokens."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from cotuning_tune.base.errors import UserError
from cotuning_tune.service import people
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import NotSignedIn, Problem, Refused, Unknown
from cotuning_tune.service.store import Store, audit, broken_audit, file_system
from cotuning_tune.service.tables import AUDIT, META, TOKEN, USER

ROOT = Actor("root", "admin")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(f"sqlite:///{tmp_path / 'service.db'}")
    people.link(found, "root", 0.0)
    yield found
    found.close()


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), META) == []


def test_one_service_is_active(store: Store) -> None:
    with pytest.raises(UserError, match="another service is active"):
        Store(store.url)
    Store(store.url, active=False).close()


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    first = Store(url)
    with first.writing() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    first.close()
    with pytest.raises(UserError, match="of a later version"):
        Store(url)


@pytest.mark.parametrize(
    "url", ["mysql://a/b", "nonsense", "sqlite://", "postgresql+psycopg://me:secret@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(UserError) as raised:
        Store(url)
    assert "secret" not in str(raised.value)


def test_network_disks_are_known(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n/dev/b {tmp_path}/local ext4 rw 0 0\n")
    assert file_system(tmp_path / "deep", mounts) == "nfs4"
    assert file_system(tmp_path / "local", mounts) == "ext4"
    assert file_system(Path("/elsewhere"), mounts) == "ext4"


@pytest.mark.parametrize("what", ["content", "actor", "removed", "order"])
def test_a_changed_audit_is_noticed(store: Store, what: str) -> None:
    with store.writing() as connection:
        for number in range(5):
            audit(connection, float(number), "root", "look", f"run{number}", number=number)
        assert broken_audit(connection) is None
        third = connection.execute(sa.select(AUDIT.c.seq).where(AUDIT.c.object == "run2")).scalar_one()
        change = AUDIT.update().where(AUDIT.c.seq == third)
        if what == "content":
            connection.execute(change.values(content={"number": 7}))
        elif what == "actor":
            connection.execute(change.values(actor="ann"))
        elif what == "removed":
            connection.execute(AUDIT.delete().where(AUDIT.c.seq == third))
        else:
            connection.execute(change.values(seq=1000))
        assert broken_audit(connection) is not None


def test_of_a_token_only_its_hash_is_kept(store: Store) -> None:
    made = people.add_token(store, ROOT, 0.0, label="script")
    with store.reading() as connection:
        rows = [str(dict(row)) for row in connection.execute(sa.select(TOKEN)).mappings()]
    assert not any(made["token"] in row for row in rows)
    assert people.actor_of(store, made["token"], 1.0).name == "root"
    assert "token" not in people.tokens(store, ROOT)[-1]


def test_a_link_is_good_once_and_for_ten_minutes(store: Store) -> None:
    first, second = people.link(store, "root", 0.0), people.link(store, "root", 0.0)
    session = people.begin_session(store, first, 599.0)
    assert people.actor_of(store, session, 600.0).role == "admin"
    for text, now in ((first, 1.0), (second, 601.0), ("", 1.0), ("x" * 43, 1.0)):
        with pytest.raises(NotSignedIn):
            people.begin_session(store, text, now)
    with pytest.raises(NotSignedIn):
        people.actor_of(store, session, 600.0 + 12 * 3600)


def test_a_token_has_at_most_its_users_role(store: Store) -> None:
    people.add_user(store, ROOT, "ann", "member", 0.0)
    with pytest.raises(Refused):
        people.add_token(store, Actor("ann", "member"), 0.0, role="admin")
    made = people.add_token(store, Actor("ann", "member"), 0.0, role="viewer")
    assert people.actor_of(store, made["token"], 1.0).role == "viewer"
    whole = people.add_token(store, Actor("ann", "member"), 0.0)
    people.change_user(store, ROOT, "ann", 1.0, role="viewer")
    assert people.actor_of(store, whole["token"], 2.0).role == "viewer"


def test_a_user_who_has_left_has_no_tokens(store: Store) -> None:
    people.add_user(store, ROOT, "ann", "member", 0.0)
    made = people.add_token(store, Actor("ann", "member"), 0.0)
    people.change_user(store, ROOT, "ann", 1.0, active=False)
    with pytest.raises(NotSignedIn):
        people.actor_of(store, made["token"], 2.0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: people.add_user(s, ROOT, "root", "member", 0.0), "there is a user root"),
        (lambda s: people.add_user(s, ROOT, "../ann", "member", 0.0), "must not hold"),
        (lambda s: people.add_user(s, ROOT, "ann", "king", 0.0), "no role 'king'"),
        (lambda s: people.add_user(s, ROOT, "ann", "member", 0.0, colour="red"), "no setting of a user 'colour'"),
        (lambda s: people.change_user(s, ROOT, "root", 0.0, role="viewer"), "the last admin"),
        (lambda s: people.change_user(s, ROOT, "root", 0.0, active=False), "the last admin"),
        (lambda s: people.change_user(s, ROOT, "nobody", 0.0, role="viewer"), "there is no user"),
        (lambda s: people.add_token(s, ROOT, 0.0, days=0), "days = 0"),
        (lambda s: people.add_user(s, Actor("ann", "operator"), "ben", "viewer", 0.0), "this takes admin"),
    ],
)
def test_what_is_refused_of_people(store: Store, call: Callable[[Store], object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        call(store)
    with store.reading() as connection:
        assert list(connection.execute(sa.select(USER.c.name, USER.c.role, USER.c.active))) == [("root", "admin", True)]


def test_nobody_revokes_what_is_not_his(store: Store) -> None:
    made = people.add_token(store, ROOT, 0.0)
    with pytest.raises(Unknown):
        people.revoke(store, Actor("ann", "operator"), made["id"], 0.0)
    people.revoke(store, ROOT, made["id"], 0.0)
    with pytest.raises(NotSignedIn):
        people.actor_of(store, made["token"], 1.0)


def test_tokens_are_not_without_number(store: Store) -> None:
    for _ in range(people.MOST_TOKENS - 1):
        people.add_token(store, ROOT, 0.0)
    with pytest.raises(Problem, match="revoke one first"):
        people.add_token(store, ROOT, 0.0)


def test_a_link_makes_an_admin_where_there_is_none(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'service.db'}")
    with store.writing() as connection:
        connection.execute(USER.insert().values(name="ann", role="member", created=0.0))  # as after a rebuild
    people.begin_session(store, people.link(store, "ann", 0.0), 1.0)
    assert people.user_of(store, Actor("ann", "admin"))["role"] == "admin"
    with pytest.raises(Unknown, match="an admin adds people"):
        people.link(store, "ben", 0.0)
    store.close()
