"""The tables of the service's database. Of trials, scores and files nothing: those are in the runs' folders."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

META = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER alone

USER = Table(
    "user",
    META,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("weight", Float, nullable=False, default=1.0),
    Column("units", Float),  # at once; NULL: no limit
    Column("runs", Integer),  # at once
    Column("hours", Float),  # of a unit in a month
    Column("disk", BigInteger),  # bytes of the folders
    Column("high", Boolean, nullable=False, default=False),  # may ask for priority
    Column("created", Float, nullable=False),
    Column("active", Boolean, nullable=False, default=True),
)
TOKEN = Table(
    "token",
    META,
    Column("id", String(16), primary_key=True),
    Column("user", ForeignKey("user.name"), nullable=False),
    Column("kind", String(8), nullable=False),  # token, session, link
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256
    Column("label", String(200), nullable=False, default=""),
    Column("role", String(16), nullable=False),  # at most this one's rights
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("used", Float),
)
RUN = Table(
    "run",
    META,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("owner", ForeignKey("user.name"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("folder", Text, nullable=False, unique=True),
    Column("backend", String(64), nullable=False),
    Column("private", Boolean, nullable=False, default=False),
    Column("labels", JSON, nullable=False),
    Column("trials", Integer),  # of each study, once extended
    Column("least", Integer, nullable=False, default=1),
    Column("most", Integer),  # trials at a time; NULL: as many as there are
    Column("cost", Float, nullable=False, default=1.0),  # units of a trial
    Column("priority", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("wanted", String(8), nullable=False, default="run"),
    Column("attempt", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),
    Column("backoff_until", Float, nullable=False, default=0.0),
    Column("progress", Integer, nullable=False, default=0),
    Column("unreachable_since", Float),
    Column("reason", Text, nullable=False, default=""),
    Column("waits", Text, nullable=False, default=""),  # why it is queued, in a sentence
    Column("share", Integer, nullable=False, default=0),
    Column("summary", JSON, nullable=False),  # a few figures of summary.json, for lists
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("since", Float, nullable=False),  # in this state
    Column("archived", Boolean, nullable=False, default=False),
    Column("version", Integer, nullable=False, default=1),
    Column("experiment", Text, nullable=False),  # the wide ones last: a list reads none of them
    Column("content", JSON, nullable=False),  # what its check has found: studies, trials, seeds
    Index("ix_run_owner_seq", "owner", "seq"),
    Index("ix_run_state_seq", "state", "seq"),
)
ATTEMPT = Table(
    "attempt",
    META,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("units", Float, nullable=False, default=0.0),
    Column("hours", Float, nullable=False, default=0.0),  # of a unit, counted until its end is confirmed
    Column("counted", Float, nullable=False),  # until when
    Column("state", String(16), nullable=False, default=""),  # which it ended with
    Column("reason", Text, nullable=False, default=""),
)
EVENT = Table(
    "event",
    META,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("run", String(16), nullable=False, default=""),
    Column("kind", String(32), nullable=False),
    Column("content", JSON, nullable=False),
    Index("ix_event_run_seq", "run", "seq"),
)
AUDIT = Table(
    "audit",
    META,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(200), nullable=False),
    Column("content", JSON, nullable=False),
    Column("hash", String(64), nullable=False),  # of this line and the one before
)
IDEMPOTENCY = Table(
    "idempotency",
    META,
    Column("user", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("body", String(64), nullable=False),  # its hash
    Column("status", Integer, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("time", Float, nullable=False),
)
WEBHOOK = Table(
    "webhook",
    META,
    Column("id", String(16), primary_key=True),
    Column("owner", ForeignKey("user.name"), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("events", JSON, nullable=False),
    Column("created", Float, nullable=False),
)
DELIVERY = Table(
    "delivery",
    META,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("webhook", ForeignKey("webhook.id"), nullable=False),
    Column("event", SEQUENCE, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("next", Float, nullable=False),
    Column("state", String(16), nullable=False, default="waiting"),
    Column("status", Text, nullable=False, default=""),
    Index("ix_delivery_state_next", "state", "next"),
)
COMPARISON = Table(
    "comparison",
    META,
    Column("id", String(16), primary_key=True),
    Column("owner", ForeignKey("user.name"), nullable=False),
    Column("runs", JSON, nullable=False),
    Column("created", Float, nullable=False),
)
