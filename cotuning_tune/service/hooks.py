"""Webhooks: what became of a run is sent to addresses that its owner named, signed, and again until it is taken."""

import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem, Unknown
from cotuning_tune.service.retention import sweep
from cotuning_tune.service.store import Store, audit
from cotuning_tune.service.tables import DELIVERY, EVENT, RUN, WEBHOOK

log = logging.getLogger(__name__)
STATES = ("done", "failed", "paused", "interrupted")
PAUSES_S = (10.0, 60.0, 300.0, 1800.0, 3600.0, 4 * 3600.0, 14 * 3600.0)  # eight tries in a day
TIMEOUT_S, ROUND_S, SWEEP_S, MOST, MOST_HOOKS = 10.0, 2.0, 3600.0, 50, 20


@dataclass(frozen=True)
class Target:
    """An address that was looked up: the host's name, its IP address, the port, the path, and whether by TLS."""

    host: str
    address: str
    port: int
    path: str
    tls: bool


def target_of(url: str, *, local: bool = False) -> Target:
    """Where a URL leads, without an address where its host has none now.

    Raises Problem for another scheme than http(s), a user in it, an address that is not public.

    ``local``: this machine's own addresses are taken too (tests).
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Problem("this is not a URL", "https://HOST/PATH is possible", key="url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(url) > 2000:
        raise Problem("a webhook cannot be sent there", "https://HOST/PATH is possible, without a user", key="url")
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        found = set()  # it may have one later
    for address in found:
        where = ipaddress.ip_address(address.partition("%")[0])
        if not (where.is_global or (local and where.is_loopback)):
            raise Problem(f"{parts.hostname} is not a public address", "webhooks go to public ones alone", key="url")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.hostname, min(found, default=""), port, path, parts.scheme == "https")


def add_webhook(
    store: Store, actor: Actor, url: str, events: list[str], now: float, *, local: bool = False
) -> dict[str, Any]:
    """A webhook of his own; its secret is told this once. Raises Problem, Refused."""
    actor.require("member")
    target_of(url, local=local)
    if wrong := [one for one in events if one not in STATES]:
        raise Problem(f"no event '{wrong[0]}'", f"there are: {', '.join(STATES)}", key="events")
    row = {"id": secrets.token_hex(6), "owner": actor.name, "url": url, "secret": secrets.token_urlsafe(32)}
    row |= {"events": list(dict.fromkeys(events)) or list(STATES), "created": now}  # type: ignore[dict-item]
    with store.writing() as connection:
        count = sa.select(sa.func.count()).where(WEBHOOK.c.owner == actor.name)
        if (connection.execute(count).scalar() or 0) >= MOST_HOOKS:
            raise Problem(f"{actor.name} has {MOST_HOOKS} webhooks", "remove one first")
        connection.execute(WEBHOOK.insert().values(**row))
        audit(connection, now, actor.name, "add webhook", str(row["id"]), host=urlsplit(url).hostname)
    return row


def webhooks(store: Store, actor: Actor) -> list[dict[str, Any]]:
    """His own webhooks, without their secrets, each with its last deliveries."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(WEBHOOK).where(WEBHOOK.c.owner == actor.name)).mappings().all()
        found = []
        for row in rows:
            query = sa.select(DELIVERY).where(DELIVERY.c.webhook == row["id"]).order_by(DELIVERY.c.seq.desc()).limit(10)
            last = [dict(one) for one in connection.execute(query).mappings()]
            found.append({k: v for k, v in row.items() if k != "secret"} | {"deliveries": last})
        return found


def remove_webhook(store: Store, actor: Actor, identity: str, now: float) -> None:
    """Remove one of his own. Raises Unknown."""
    with store.writing() as connection:
        own = sa.and_(WEBHOOK.c.id == identity, WEBHOOK.c.owner == actor.name)
        if not connection.execute(sa.select(WEBHOOK.c.id).where(own)).first():
            raise Unknown(f"there is no webhook {identity[:40]}")
        connection.execute(DELIVERY.delete().where(DELIVERY.c.webhook == identity))
        connection.execute(WEBHOOK.delete().where(own))
        audit(connection, now, actor.name, "remove webhook", identity)


def enqueue(connection: sa.Connection, now: float, run: str, state: str, event: int) -> None:
    """Have an event of a run sent to the webhooks of its owner that ask for it, in the event's own transaction."""
    if state not in STATES:
        return
    owner = connection.execute(sa.select(RUN.c.owner).where(RUN.c.id == run)).scalar()
    for row in connection.execute(sa.select(WEBHOOK).where(WEBHOOK.c.owner == owner)).mappings().all():
        if state in row["events"]:
            connection.execute(DELIVERY.insert().values(webhook=row["id"], event=event, next=now))


class Outbox:
    """Sends what waits to be sent, and forgets what is old, in a thread of its own.

    ``local``: to this machine's own addresses too (tests).
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time, *, local: bool = False) -> None:
        self.store, self.now, self.local = store, now, local
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._stopped.set()

    def _go(self) -> None:
        swept = 0.0
        while not self._stopped.wait(ROUND_S):
            try:
                self.round()
                if self.now() - swept > SWEEP_S:
                    swept = self.now()
                    sweep(self.store, swept)
            except Exception:
                log.exception("the outbox failed")

    def round(self) -> None:
        """Send all that is due, each once."""
        with self.store.reading() as connection:
            query = sa.select(DELIVERY, WEBHOOK.c.url, WEBHOOK.c.secret, EVENT.c.run, EVENT.c.time, EVENT.c.content)
            query = query.join(WEBHOOK, WEBHOOK.c.id == DELIVERY.c.webhook).join(EVENT, EVENT.c.seq == DELIVERY.c.event)
            due = query.where(DELIVERY.c.state == "waiting", DELIVERY.c.next <= self.now()).limit(MOST)
            rows = [dict(row) for row in connection.execute(due).mappings()]
        for row in rows:
            taken, status = self._send(row)
            tries = row["tries"] + 1
            over = tries > len(PAUSES_S)
            state = "sent" if taken else "given up" if over else "waiting"
            later = self.now() + (0.0 if taken or over else PAUSES_S[tries - 1])
            with self.store.writing() as connection:
                values = {"tries": tries, "state": state, "next": later, "status": status}
                connection.execute(DELIVERY.update().where(DELIVERY.c.seq == row["seq"]).values(**values))

    def _send(self, row: dict[str, Any]) -> tuple[bool, str]:
        content = {"id": row["seq"], "run": row["run"], "time": row["time"], **row["content"]}
        body = json.dumps(content, ensure_ascii=False).encode()
        signature = hmac.new(row["secret"].encode(), body, hashlib.sha256).hexdigest()
        try:
            status = post(
                target_of(row["url"], local=self.local), body, {"X-Cotuning-Signature": f"sha256={signature}"}
            )
        except Problem as problem:
            return False, str(problem)
        except Exception as problem:
            return False, f"{type(problem).__name__}: {problem}"[:200]
        return 200 <= status < 300, str(status)


def post(target: Target, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer; the address that was looked up is the one that is asked, no redirect is followed."""
    import httpx

    if not target.address:
        raise Problem(f"{target.host} has no address")
    scheme, host = (
        ("https" if target.tls else "http"),
        f"[{target.address}]" if ":" in target.address else target.address,
    )
    named = target.host if target.port in (80, 443) else f"{target.host}:{target.port}"
    said = {"Host": named, "Content-Type": "application/json", "User-Agent": "cotuning-tune", **headers}
    extensions = {"sni_hostname": target.host} if target.tls else {}
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
        asked = client.build_request(
            "POST", f"{scheme}://{host}:{target.port}{target.path}", content=body, headers=said
        )
        asked.extensions |= extensions
        answer = client.send(asked, stream=True)
        answer.close()
        return answer.status_code
