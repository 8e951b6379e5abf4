"""Routes of people: who one is, tokens, users, webhooks, the audit; signing in and out."""

import html
import re
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from cotuning_tune.service import people, webhooks
from cotuning_tune.service.asked import PAGE
from cotuning_tune.service.http.bodies import (
    MOST_NUMBER,
    Asked,
    Id,
    Key,
    Name,
    Page,
    TokenBody,
    UserBody,
    UserChangeBody,
    WebhookBody,
    Who,
)
from cotuning_tune.service.http.guard import COOKIE, actor
from cotuning_tune.service.once import once
from cotuning_tune.service.problems import NotSignedIn, Unknown
from cotuning_tune.service.store import broken_audit

router = APIRouter(tags=["people"])
doors = APIRouter(include_in_schema=False)  # outside of the API: how a browser comes in
LINK = re.compile(r"[A-Za-z0-9_-]{20,100}")
PAGE_OF_LINK = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>cotuning_tune</h1><form method="post" action="/session">
<input type="hidden" name="link" value="{link}"><button type="submit">Sign in</button></form>
<p>This link opens the service once, for twelve hours in this browser.</p></main></body></html>
"""


@router.get("/me")
def me(who: Who, service: Asked) -> dict[str, Any]:
    """Who asks, with which role, and within which limits."""
    return {"name": who.name, "role": who.role, "kind": who.kind, "user": people.user_of(service.store, who)}


@router.get("/tokens")
def tokens(who: Who, service: Asked) -> dict[str, Any]:
    """One's own tokens and sessions, without their texts."""
    return {"tokens": people.tokens(service.store, who)}


@router.post("/tokens", status_code=201)
def add_token(asked: TokenBody, who: Who, service: Asked, key: Key) -> dict[str, Any]:
    """A new token. Its text is told in this answer alone: where the request is repeated with its key, it is null."""
    given, now = asked.model_dump(), service.now()

    def make() -> dict[str, Any]:
        return people.add_token(service.store, who, now, **given)

    return once(service.store, who, key, {"tokens": given}, make, now, "token")


@router.delete("/tokens/{token}", status_code=204)
def revoke(token: Id, who: Who, service: Asked) -> None:
    """Take a token back."""
    people.revoke(service.store, who, token, service.now())


@router.get("/users")
def users(who: Who, service: Asked) -> dict[str, Any]:
    """All users."""
    return {"users": people.users(service.store, who)}


@router.post("/users", status_code=201)
def add_user(asked: UserBody, who: Who, service: Asked, key: Key) -> dict[str, Any]:
    """A new user."""
    given, now = asked.model_dump(exclude_unset=True), service.now()

    def make() -> dict[str, Any]:
        return people.add_user(service.store, who, now=now, **{"role": asked.role, **given})

    return once(service.store, who, key, {"users": given}, make, now)


@router.patch("/users/{user}")
def change_user(user: Name, asked: UserChangeBody, who: Who, service: Asked) -> dict[str, Any]:
    """Change a user."""
    return people.change_user(service.store, who, user, service.now(), **asked.model_dump(exclude_unset=True))


@router.post("/users/{user}/link", status_code=201)
def invite(user: Name, who: Who, service: Asked) -> dict[str, Any]:
    """A one-time link for a user, valid for ten minutes."""
    who.require("admin")
    if user not in {one["name"] for one in people.users(service.store, who) if one["active"]}:
        raise Unknown(f"there is no user {user[:100]!a}")
    return {"path": f"/sign-in/{people.link(service.store, user, service.now())}"}


@router.get("/webhooks")
def own_webhooks(who: Who, service: Asked) -> dict[str, Any]:
    """One's own webhooks, without their secrets."""
    return {"webhooks": webhooks.listed(service.store, who)}


@router.post("/webhooks", status_code=201)
def add_webhook(asked: WebhookBody, who: Who, service: Asked, key: Key) -> dict[str, Any]:
    """A new webhook. Its secret is told in this answer alone, as a token's text."""
    given, now = asked.model_dump(), service.now()

    def make() -> dict[str, Any]:
        return webhooks.add(service.store, who, now=now, **given)

    return once(service.store, who, key, {"webhooks": given}, make, now, "secret")


@router.delete("/webhooks/{webhook}", status_code=204)
def remove_webhook(webhook: Id, who: Who, service: Asked) -> None:
    """Remove a webhook."""
    webhooks.remove(service.store, who, webhook, service.now())


@router.get("/audit")
def audit(
    who: Who, service: Asked, before: Annotated[int, Query(ge=0, le=MOST_NUMBER)] = 0, limit: Page = PAGE
) -> dict[str, Any]:
    """Lines of the audit, the newest first; ``next``: what to give as ``before``, 0 at the end."""
    lines = people.audit_lines(service.store, who, before, limit)
    with service.store.reading() as connection:
        broken = broken_audit(connection)
    return {"lines": lines, "next": lines[-1]["seq"] if len(lines) == limit else 0, "broken": broken}


@doors.get("/sign-in/{link}")
def sign_in(link: str) -> Response:
    """A page with a button, so that nothing that looks at a link beforehand uses it up."""
    if not LINK.fullmatch(link):
        raise NotSignedIn("this is no link of the service", "ask for a new one (cotuning-tune serve --link)")
    return HTMLResponse(PAGE_OF_LINK.format(link=html.escape(link)))


async def _given(request: Request) -> str:
    """The link or token of a form."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    return fields.get("link", fields.get("token", [""]))[0]


@doors.post("/session")
def begin(request: Request, service: Asked, text: Annotated[str, Depends(_given)]) -> Response:
    """A session in exchange for a one-time link (``link``) or a token (``token``)."""
    session = people.begin_session(service.store, text, service.now())
    answer = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, session, int(people.SESSION_S), httponly=True, samesite="strict", secure=secure)
    return answer


@doors.post("/sign-out")
def end(service: Asked, who: Annotated[people.Actor, Depends(actor)]) -> Response:
    """The end of a session; a token stays."""
    if who.kind == "session":
        people.revoke(service.store, who, who.token, service.now())
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE)
    return answer
