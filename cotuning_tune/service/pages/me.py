"""The pages Sign in and Me: sessions, tokens, and what one has used."""

import re

from fastapi import APIRouter, Request
from starlette.responses import Response

from cotuning_tune.service.http.guard import COOKIE
from cotuning_tune.service.pages.frame import Frame, Sent, Who, positive, seen
from cotuning_tune.service.people import (
    ROLES,
    SESSION_S,
    Actor,
    add_token,
    begin_session,
    end_session,
    revoke,
    tokens,
    user_of,
)
from cotuning_tune.service.problems import NotSignedIn

LINK = re.compile(r"[A-Za-z0-9_-]{20,100}")


def add(router: APIRouter, frame: Frame) -> None:
    """The pages of signing in and of one's own affairs."""
    service = frame.service

    def mine(request: Request, who: Actor, new: dict[str, object] | None = None) -> Response:
        used = service.reconciler.people(service.now())[who.name]
        roles = [role for role in ROLES if who.may(role)]
        shown = {"user": user_of(service.store, who), "used": used, "roles": roles, "new": new}
        shown |= {"tokens": tokens(service.store, who)}
        return frame.show(request, who, "me.html", shown)

    @router.get("/sign-in")
    def ask(request: Request) -> Response:
        """The form to sign in on by a token."""
        return frame.show(request, None, "sign_in.html", {"link": "", "problem": None})

    @router.get("/sign-in/{link}")
    def by_link(request: Request, link: str) -> Response:
        """A page with a button, so that nothing that looks at a link beforehand uses it up."""
        if not LINK.fullmatch(link):
            raise NotSignedIn("this is not a link of the service", "ask for a new one (cotuning-tune serve --link)")
        return frame.show(request, None, "sign_in.html", {"link": link, "problem": None})

    @router.post("/session")
    def begin(request: Request, sent: Sent) -> Response:
        """A session in exchange for a one-time link (``link``) or a token (``token``)."""
        text = (sent.get("link") or sent.get("token", "")).strip()[:200]
        session = begin_session(service.store, text, service.now())
        answer = seen("/")
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, session, int(SESSION_S), httponly=True, samesite="strict", secure=secure)
        return answer

    @router.post("/sign-out")
    def end(who: Who) -> Response:
        """The end of a session; a token stays."""
        end_session(service.store, who, service.now())
        answer = seen("/sign-in")
        answer.delete_cookie(COOKIE)
        return answer

    @router.get("/me")
    def me(request: Request, who: Who) -> Response:
        """Tokens, limits, and what has been used."""
        return mine(request, who)

    @router.post("/me/tokens")
    def new_token(request: Request, who: Who, sent: Sent) -> Response:
        """A new token, whose text this one page shows."""
        days = positive(sent, "days")
        asked = {"label": sent.get("label", "").strip(), "role": sent.get("role", "")}
        new = add_token(service.store, who, service.now(), **asked, days=90.0 if days is None else days)
        return mine(request, who, new)

    @router.post("/me/tokens/{identity}/revoke")
    def take_back(who: Who, identity: str) -> Response:
        """Revoke one."""
        revoke(service.store, who, identity, service.now())
        return seen("/me")
