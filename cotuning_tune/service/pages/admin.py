"""The page Admin: people with their limits, backends, the audit, health."""

import time
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from starlette.responses import Response

from cotuning_tune.base.secrets import masked
from cotuning_tune.service.pages.frame import Fields, Frame, Sent, Who, positive, seen, whole
from cotuning_tune.service.people import ROLES, Actor, add_user, audit_lines, change_user, invite, users
from cotuning_tune.service.problems import Problem
from cotuning_tune.service.store import broken_audit
from cotuning_tune.service.tables import RUN

LINES = 50  # of the audit, a page
GIB = 2**30


def add(router: APIRouter, frame: Frame) -> None:
    """The admin's page: operators see it, admins change what stands on it."""
    service = frame.service

    def page(request: Request, who: Actor, url: str = "", url_of: str = "") -> Response:
        shown: dict[str, object] = {"users": users(service.store, who), "roles": ROLES, "url": url, "url_of": url_of}
        shown |= {"health": _health(frame), "places": service.settings.places, "gib": GIB}
        return frame.show(request, who, "admin.html", shown)

    @router.get("/admin")
    def admin(request: Request, who: Who) -> Response:
        """People, backends, health."""
        return page(request, who)

    @router.get("/admin/audit")
    def lines(request: Request, who: Who, before: int = 0, check: bool = False) -> Response:
        """The audit, the newest lines first; ``check``: whether it is as it was written."""
        rows = audit_lines(service.store, who, before, LINES + 1)
        with service.store.reading() as connection:
            broken = broken_audit(connection) if check else None
        found = {"lines": rows[:LINES], "more": len(rows) > LINES, "checked": check, "broken": broken}
        return frame.show(request, who, "audit.html", found)

    @router.post("/admin/users")
    def new_user(request: Request, who: Who, sent: Sent) -> Response:
        """A new user, and the link that he signs in by."""
        name = sent.get("name", "").strip()
        add_user(service.store, who, name, sent.get("role", "member"), service.now(), **_limits(sent))
        return page(request, who, *_link(frame, request, who, name))

    @router.post("/admin/users/{name}")
    def changed(who: Who, name: str, sent: Sent) -> Response:
        """Another role, other limits."""
        values = _limits(sent) | {"role": sent.get("role", ""), "active": "active" in sent}
        change_user(service.store, who, name, service.now(), **values)
        return seen("/admin")

    @router.post("/admin/users/{name}/link")
    def new_link(request: Request, who: Who, name: str) -> Response:
        """A new link for somebody who is there, whose text this one page shows."""
        return page(request, who, *_link(frame, request, who, name))


def _limits(sent: Fields) -> dict[str, object]:
    """What an empty field says: no limit; of the weight: 1."""
    weight, disk = positive(sent, "weight"), positive(sent, "disk")
    if weight == 0:
        raise Problem("weight = 0", "a number above 0 is possible", key="weight")
    return {
        "weight": 1.0 if weight is None else weight,
        "units": positive(sent, "units"),
        "runs": whole(sent, "runs"),
        "hours": positive(sent, "hours"),
        "disk": None if disk is None else int(disk * GIB),
        "high": "high" in sent,
    }


def _link(frame: Frame, request: Request, who: Actor, name: str) -> tuple[str, str]:
    """A one-time link for a user, and his name."""
    return f"{request.base_url}sign-in/{invite(frame.service.store, who, name, frame.service.now())}", name


def _health(frame: Frame) -> dict[str, Any]:
    service = frame.service
    beat = service.reconciler.beat
    with service.store.reading() as connection:
        counts = connection.execute(sa.select(RUN.c.state, sa.func.count()).group_by(RUN.c.state)).all()
        away = connection.execute(sa.select(sa.func.count()).where(RUN.c.unreachable_since.is_not(None))).scalar()
    return {
        "beat": time.monotonic() - beat if beat else None,
        "database": masked(service.settings.database),
        "storage": masked(service.settings.storage),
        "states": {row[0]: row[1] for row in counts},
        "away": away or 0,
    }
