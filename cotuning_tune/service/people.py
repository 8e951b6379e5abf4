"""Who may do what: users with roles, and the tokens that they show. Of a token only its SHA-256 is kept."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cotuning_tune.base.errors import unknown
from cotuning_tune.base.names import check_name
from cotuning_tune.service.problems import NotSignedIn, Problem, Refused, Unknown
from cotuning_tune.service.store import Store, audit
from cotuning_tune.service.tables import AUDIT, TOKEN, USER

ROLES = ("viewer", "member", "operator", "admin")  # each may what those before it may
HOUR, DAY = 3600.0, 86400.0
SESSION_S, LINK_S = 12 * HOUR, 10 * 60.0
MOST_TOKENS = 100
LIMITS = ("weight", "units", "runs", "hours", "disk", "high", "role", "active")


@dataclass(frozen=True)
class Actor:
    """Who asks: a user by one of his tokens, whose role is the lesser one of both."""

    name: str
    role: str
    token: str = ""
    kind: str = "token"

    def may(self, role: str) -> bool:
        """Whether the role is this one or above it."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def require(self, role: str) -> None:
        """Raises Refused below that role."""
        if not self.may(role):
            raise Refused(f"{self.name} is {self.role} here, this takes {role}", "ask an admin of the service")

    def sees(self, run: Any) -> bool:
        """Whether a run is for his eyes: his own ones, and those of others that are not private."""
        return run["owner"] == self.name or not run["private"] or self.may("operator")

    def check_changes(self, run: Any) -> None:
        """Raises Refused unless he may change a run that he sees: his own as a member, others' as an operator."""
        self.require("member" if run["owner"] == self.name else "operator")


def hashed(text: str) -> str:
    """What is kept of a token, or of a request's body."""
    return hashlib.sha256(text.encode()).hexdigest()


def _role(role: str) -> str:
    if role not in ROLES:
        raise Problem(str(unknown("role", role, list(ROLES))))
    return role


def add_user(store: Store, actor: Actor, name: str, role: str, now: float, **limits: object) -> dict[str, Any]:
    """A new user. Raises Problem for a name that is none or taken, Refused below admin."""
    actor.require("admin")
    check_name(name, "the user's name")
    _role(role)
    with store.writing() as connection:
        if connection.execute(sa.select(USER.c.name).where(USER.c.name == name)).first():
            raise Problem(f"there is a user {name}", "change that one, or choose another name", key="name")
        connection.execute(USER.insert().values(name=name, role=role, created=now, **_known(limits)))
        audit(connection, now, actor.name, "add user", name, role=role, **limits)
        return _user(connection, name)


def change_user(store: Store, actor: Actor, name: str, now: float, **changes: object) -> dict[str, Any]:
    """Another role or other limits; ``active`` = False takes all his tokens. Raises Problem, Unknown, Refused."""
    actor.require("admin")
    if "role" in changes:
        _role(str(changes["role"]))
    with store.writing() as connection:
        found = _user(connection, name)
        if not _known(changes):
            return found
        connection.execute(USER.update().where(USER.c.name == name).values(**changes))
        if changes.get("active") is False:
            connection.execute(TOKEN.delete().where(TOKEN.c.user == name))
        admins = sa.select(sa.func.count()).where(USER.c.role == "admin", USER.c.active)
        if not connection.execute(admins).scalar():
            raise Problem(f"{name} is the last admin", "make another user admin first")
        audit(connection, now, actor.name, "change user", name, **changes)
        return _user(connection, name)


def _known(limits: dict[str, object]) -> dict[str, object]:
    if wrong := set(limits) - set(LIMITS):
        raise Problem(str(unknown("setting of a user", min(wrong), list(LIMITS))))
    return limits


def _user(connection: sa.Connection, name: str) -> dict[str, Any]:
    found = connection.execute(sa.select(USER).where(USER.c.name == name)).mappings().first()
    if found is None:
        raise Unknown(f"there is no user {name}")
    return dict(found)


def users(store: Store, actor: Actor) -> list[dict[str, Any]]:
    """Every user, with his limits: an operator's to see."""
    actor.require("operator")
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(USER).order_by(USER.c.name)).mappings()]


def user_of(store: Store, actor: Actor) -> dict[str, Any]:
    """The user himself."""
    with store.reading() as connection:
        return _user(connection, actor.name)


def mint(
    connection: sa.Connection, user: str, kind: str, role: str, now: float, seconds: float, label: str = ""
) -> tuple[str, str]:
    """A new token of a user; its id, and the token, which nobody can be told again."""
    text, identity = secrets.token_urlsafe(32), secrets.token_hex(8)
    row = {"id": identity, "user": user, "kind": kind, "hash": hashed(text), "label": label, "role": role}
    connection.execute(TOKEN.insert().values(**row, created=now, expires=now + seconds))
    return identity, text


def add_token(
    store: Store, actor: Actor, now: float, *, label: str = "", role: str = "", days: float = 90.0
) -> dict[str, Any]:
    """A token of his own, of at most his role. Raises Refused for more than that, Problem for no number of days."""
    role = _role(role or actor.role)
    actor.require(role)
    if not 0 < days <= 3650:
        raise Problem(f"days = {days:g}", "a token is valid for more than 0 and at most 3650 days", key="days")
    with store.writing() as connection:
        held = connection.execute(sa.select(sa.func.count()).where(TOKEN.c.user == actor.name)).scalar() or 0
        if held >= MOST_TOKENS:
            raise Problem(f"{actor.name} has {held} tokens", "revoke one first")
        identity, text = mint(connection, actor.name, "token", role, now, days * DAY, label[:200])
        audit(connection, now, actor.name, "add token", identity, role=role, days=days)
    return {"id": identity, "token": text, "role": role, "label": label[:200], "expires": now + days * DAY}


def tokens(store: Store, actor: Actor) -> list[dict[str, Any]]:
    """His own tokens and sessions; of none its text."""
    shown = (TOKEN.c.id, TOKEN.c.kind, TOKEN.c.label, TOKEN.c.role, TOKEN.c.created, TOKEN.c.expires, TOKEN.c.used)
    with store.reading() as connection:
        rows = connection.execute(sa.select(*shown).where(TOKEN.c.user == actor.name).order_by(TOKEN.c.created))
        return [dict(row) for row in rows.mappings()]


def revoke(store: Store, actor: Actor, identity: str, now: float) -> None:
    """Take a token back: his own, as an admin anybody's. Raises Unknown."""
    with store.writing() as connection:
        owned = sa.true() if actor.may("admin") else TOKEN.c.user == actor.name
        if not connection.execute(TOKEN.delete().where(TOKEN.c.id == identity, owned)).rowcount:
            raise Unknown(f"there is no token {identity[:40]}")
        audit(connection, now, actor.name, "revoke token", identity)


def actor_of(store: Store, text: str, now: float, *kinds: str) -> Actor:
    """Whose token this is. Raises NotSignedIn."""
    wanted = kinds or ("token", "session")
    with store.reading() as connection:
        query = sa.select(TOKEN, USER.c.role.label("most")).join(USER, USER.c.name == TOKEN.c.user)
        found = connection.execute(query.where(TOKEN.c.hash == hashed(text), USER.c.active)).mappings().first()
    if found is None or found["kind"] not in wanted or found["expires"] <= now:
        raise NotSignedIn("this token is not valid (any more)", "ask for a new one (cotuning-tune serve --link)")
    if found["used"] is None or now - found["used"] > 60:
        with store.writing() as connection:
            connection.execute(TOKEN.update().where(TOKEN.c.id == found["id"]).values(used=now))
    return Actor(found["user"], min(found["role"], found["most"], key=ROLES.index), found["id"], found["kind"])


def link(store: Store, user: str, now: float) -> str:
    """The text of a one-time link for a user, valid for ten minutes. Where no admin is, he becomes one.

    Raises Unknown for a new name beside an admin, who adds people.
    """
    with store.writing() as connection:
        there = connection.execute(sa.select(USER.c.name).where(USER.c.name == user)).first()
        if not connection.execute(sa.select(USER.c.name).where(USER.c.role == "admin", USER.c.active)).first():
            check_name(user, "the user's name")
            first = USER.update().where(USER.c.name == user) if there else USER.insert()
            connection.execute(
                first.values(**({"active": True} if there else {"name": user, "created": now}), role="admin")
            )
            audit(connection, now, "serve", "make admin", user)
        elif not there:
            raise Unknown(f"there is no user {user[:100]!a}", "an admin adds people on the service's page")
        role = _user(connection, user)["role"]
        return mint(connection, user, "link", role, now, LINK_S)[1]


def invite(store: Store, actor: Actor, user: str, now: float) -> str:
    """The text of a one-time link for a user who is there. Raises Refused below admin, Unknown."""
    actor.require("admin")
    if user not in {one["name"] for one in users(store, actor) if one["active"]}:
        raise Unknown(f"there is no user {user[:100]!a}")
    with store.writing() as connection:
        audit(connection, now, actor.name, "make link", user)
        return link(store, user, now)


def begin_session(store: Store, text: str, now: float) -> str:
    """Take a one-time link in, or a token; the text of the session that begins. Raises NotSignedIn."""
    actor = actor_of(store, text, now, "link", "token")
    with store.writing() as connection:
        if actor.kind == "link" and not connection.execute(TOKEN.delete().where(TOKEN.c.id == actor.token)).rowcount:
            raise NotSignedIn("this link has been used", "ask for a new one (cotuning-tune serve --link)")
        audit(connection, now, actor.name, "begin session", actor.kind)
        return mint(connection, actor.name, "session", actor.role, now, SESSION_S)[1]


def end_session(store: Store, actor: Actor, now: float) -> None:
    """End the session by which he asks; a token stays."""
    if actor.kind == "session":
        revoke(store, actor, actor.token, now)


def audit_lines(store: Store, actor: Actor, before: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Lines of the audit, the newest first, with ``before`` those before that number: an admin's to see."""
    actor.require("admin")
    query = sa.select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(limit)
    with store.reading() as connection:
        found = connection.execute(query.where(AUDIT.c.seq < before) if before else query)
        return [dict(row) for row in found.mappings()]
