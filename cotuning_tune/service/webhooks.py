"""Whom the service tells of ended runs: addresses with a secret that signs what is sent there."""

import secrets
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from cotuning_tune.base.errors import unknown
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem, Unknown
from cotuning_tune.service.store import Store, audit
from cotuning_tune.service.tables import DELIVERY, WEBHOOK

EVENTS = ("done", "failed", "paused", "interrupted")
MOST, MOST_URL = 20, 2000


def add(store: Store, actor: Actor, url: str, events: list[str], now: float) -> dict[str, Any]:
    """A new one of his; ``events``: states of his runs, none: all four. Its ``secret`` is told here alone.

    Raises Problem for what is no address of the web, for an unknown event, and for too many.
    """
    actor.require("member")
    _check_url(url)
    for event in events:
        if event not in EVENTS:
            raise Problem(str(unknown("event", event[:40], EVENTS)), key="events")
    secret, identity = secrets.token_urlsafe(32), secrets.token_hex(6)
    row = {"id": identity, "url": url, "events": sorted(set(events)) or list(EVENTS), "created": now}
    with store.writing() as connection:
        held = sa.select(sa.func.count()).where(WEBHOOK.c.owner == actor.name)
        if (connection.execute(held).scalar() or 0) >= MOST:
            raise Problem(f"{actor.name} has {MOST} webhooks", "remove one first")
        connection.execute(WEBHOOK.insert().values(**row, owner=actor.name, secret=secret))
        audit(connection, now, actor.name, "add webhook", identity, host=urlsplit(url).hostname)
    return row | {"secret": secret}


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or len(url) > MOST_URL or not url.isprintable() or " " in url:
        raise Problem("the webhook's address cannot be used", "https://HOST/PATH is possible", key="url")


def listed(store: Store, actor: Actor) -> list[dict[str, Any]]:
    """His own, without their secrets."""
    shown = (WEBHOOK.c.id, WEBHOOK.c.url, WEBHOOK.c.events, WEBHOOK.c.created)
    with store.reading() as connection:
        rows = connection.execute(sa.select(*shown).where(WEBHOOK.c.owner == actor.name).order_by(WEBHOOK.c.created))
        return [dict(row) for row in rows.mappings()]


def remove(store: Store, actor: Actor, identity: str, now: float) -> None:
    """Remove one of his, as an admin anybody's, with what was not sent yet. Raises Unknown."""
    with store.writing() as connection:
        owned = sa.true() if actor.may("admin") else WEBHOOK.c.owner == actor.name
        found = connection.execute(sa.select(WEBHOOK.c.id).where(WEBHOOK.c.id == identity, owned)).first()
        if not found:
            raise Unknown(f"there is no webhook {identity[:40]!a}")
        connection.execute(DELIVERY.delete().where(DELIVERY.c.webhook == identity))
        connection.execute(WEBHOOK.delete().where(WEBHOOK.c.id == identity))
        audit(connection, now, actor.name, "remove webhook", identity)
