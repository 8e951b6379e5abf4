"""Routes of people: who one is, tokens, users, webhooks, the audit."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from cotuning_tune.service import hooks, people
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
from cotuning_tune.service.once import once
from cotuning_tune.service.store import broken_audit

router = APIRouter(tags=["people"])


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
    return {"path": f"/sign-in/{people.invite(service.store, who, user, service.now())}"}


@router.get("/webhooks")
def own_webhooks(who: Who, service: Asked) -> dict[str, Any]:
    """One's own webhooks, without their secrets."""
    return {"webhooks": hooks.webhooks(service.store, who)}


@router.post("/webhooks", status_code=201)
def add_webhook(asked: WebhookBody, who: Who, service: Asked, key: Key) -> dict[str, Any]:
    """A new webhook. Its secret is told in this answer alone, as a token's text."""
    given, now = asked.model_dump(), service.now()

    def make() -> dict[str, Any]:
        return hooks.add_webhook(service.store, who, now=now, **given)

    return once(service.store, who, key, {"webhooks": given}, make, now, "secret")


@router.delete("/webhooks/{webhook}", status_code=204)
def remove_webhook(webhook: Id, who: Who, service: Asked) -> None:
    """Remove a webhook."""
    hooks.remove_webhook(service.store, who, webhook, service.now())


@router.get("/audit")
def audit(
    who: Who, service: Asked, before: Annotated[int, Query(ge=0, le=MOST_NUMBER)] = 0, limit: Page = PAGE
) -> dict[str, Any]:
    """Lines of the audit, the newest first; ``next``: what to give as ``before``, 0 at the end."""
    lines = people.audit_lines(service.store, who, before, limit)
    with service.store.reading() as connection:
        broken = broken_audit(connection)
    return {"lines": lines, "next": lines[-1]["seq"] if len(lines) == limit else 0, "broken": broken}
