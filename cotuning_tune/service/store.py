"""The database of a service: one writer at a time, one active service per database."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.secrets import masked
from cotuning_tune.service.tables import AUDIT, EVENT
from cotuning_tune.service.upgrade import upgrade

ADVISORY = 7_026_119_341_020_511  # the lock's number in PostgreSQL
NETWORK_FILES = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "9p", "ceph", "fuse.glusterfs")


class Store:
    """``url``: of SQLAlchemy, ``sqlite:///PATH`` (on a local disk) or ``postgresql+psycopg://``.

    ``migrate``: bring the tables of an earlier version up to date; SQLite's always are, after a copy was made.
    ``active``: False for a look or a word beside the service that is active on it.
    Raises UserError where another service is active on it, and where it cannot be used.
    """

    def __init__(self, url: str, *, migrate: bool = False, active: bool = True) -> None:
        self.url, self._writing = url, threading.RLock()
        self._transaction: sa.Connection | None = None
        self.engine, self._held = _engine(url), _Held(lambda: None)
        try:
            if active:
                self._held = _hold(self.engine)
                upgrade(self.engine, migrate=migrate)
        except sa.exc.SQLAlchemyError as problem:
            self.close()
            raise UserError(f"the database {masked(url)} cannot be used: {first(problem)}") from None
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        self._held.close()
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction; one at a time in this process. Within it, it is the same one."""
        with self._writing:
            if self._transaction is not None:
                yield self._transaction
                return
            with self.engine.execution_options(writing=True).begin() as connection:
                self._transaction = connection
                try:
                    yield connection
                finally:
                    self._transaction = None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for reading."""
        with self.engine.connect() as connection:
            yield connection


def first(problem: Exception) -> str:
    """An exception's first line, without a password."""
    return masked(str(getattr(problem, "orig", None) or problem).strip().splitlines()[0])


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise UserError(f"{masked(url)}: a database is sqlite:///PATH or postgresql+psycopg://HOST/NAME") from None
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise UserError(f"{masked(url)}: a database is sqlite:///PATH or postgresql+psycopg://HOST/NAME")
    path = Path(parsed.database).absolute()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (kind := file_system(path.parent)) in NETWORK_FILES:
        raise UserError(f"{path} lies on {kind}, on which SQLite is not safe: name a local disk, or PostgreSQL")
    path.touch(mode=0o600)
    engine = sa.create_engine(parsed, connect_args={"timeout": 30.0})
    sa.event.listen(engine, "connect", _sqlite)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so
    for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
        connection.execute(f"pragma {pragma}")


def file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that a folder lies on, '' where the system does not tell."""
    try:
        lines = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    here = folder.resolve()
    found = [
        (len(place), kind) for place, kind in lines if here.is_relative_to(place.encode().decode("unicode_escape"))
    ]
    return max(found, default=(0, ""))[1]


class _Held:
    """What keeps a second service away as long as it is open."""

    def __init__(self, close: Any) -> None:
        self.close = close


def _hold(engine: sa.Engine) -> _Held:
    """Be the one active service of a database. The system lets go of it where this process dies."""
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database)).absolute()
        lock = FileLock(path.with_name(path.name + ".service"), mode=0o600)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"another service is active on {path}: stop it first, or name another --database") from None
        return _Held(lock.release)
    connection = engine.connect()
    if not connection.execute(sa.text("select pg_try_advisory_lock(:n)"), {"n": ADVISORY}).scalar():
        connection.close()
        raise UserError("another service is active on this database: stop it first, or name another --database")
    connection.commit()
    return _Held(connection.close)


def tell(connection: sa.Connection, now: float, run: str, kind: str, content: Mapping[str, object]) -> int:
    """Write an event; its number."""
    row = EVENT.insert().values(time=now, run=run, kind=kind, content=dict(content))
    return int(connection.execute(row.returning(EVENT.c.seq)).scalar_one())


def audit(connection: sa.Connection, now: float, actor: str, action: str, what: str, **content: object) -> None:
    """Write a line of the audit, chained to the one before."""
    before = connection.execute(sa.select(AUDIT.c.hash).order_by(AUDIT.c.seq.desc()).limit(1)).scalar() or ""
    line = {"time": now, "actor": actor, "action": action, "object": what, "content": content}
    connection.execute(AUDIT.insert().values(**line, hash=chained(before, line)))


def chained(before: str, line: Mapping[str, object]) -> str:
    """The hash of a line of the audit after the one whose hash is given."""
    text = json.dumps(line, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def broken_audit(connection: sa.Connection) -> int | None:
    """The number of the first line of the audit that is not what was written; None: all are."""
    before = ""
    for row in connection.execute(sa.select(AUDIT).order_by(AUDIT.c.seq)).mappings():
        line = {key: row[key] for key in ("time", "actor", "action", "object", "content")}
        if row["hash"] != chained(before, line):
            return int(row["seq"])
        before = row["hash"]
    return None
