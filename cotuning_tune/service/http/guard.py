"""Who comes in: the host that is asked for, how much is sent, by whom, and from which page.

Everything passes ``Guard`` first; routes ask ``actor`` who it is.
"""

import hmac
import json
import logging
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cotuning_tune.service.asked import MOST_BYTES
from cotuning_tune.service.http.answers import other, told
from cotuning_tune.service.people import Actor, actor_of, hashed
from cotuning_tune.service.problems import NotSignedIn, Problem, Refused, TooLarge
from cotuning_tune.service.whole import Service

log = logging.getLogger(__name__)
COOKIE = "cotuning_session"
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf_token"
SAFE = ("GET", "HEAD", "OPTIONS")
MOST_BODY = 2 * MOST_BYTES  # an experiment, and what JSON or a form makes of it
HERE = ("localhost", "127.0.0.1", "[::1]")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def service_of(request: Request) -> Service:
    """The service that is asked."""
    found: Service = request.app.state.service
    return found


def shown_token(request: Request) -> str:
    """The token or session that comes with a request, '' without one."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind:
        return text.strip() if kind.lower() == "bearer" else ""
    return request.cookies.get(COOKIE, "")


def actor(request: Request) -> Actor:
    """Who asks, by a token (``Authorization: Bearer``) or a session's cookie. Raises NotSignedIn."""
    if not (text := shown_token(request)):
        raise NotSignedIn("no token came with this request", "send Authorization: Bearer TOKEN, or sign in by a link")
    service = service_of(request)
    kinds = ("token",) if "authorization" in request.headers else ("session",)
    return actor_of(service.store, text, service.now(), *kinds)


def session_token(request: Request) -> str:
    """The text that a form of a session sends as ``csrf_token`` (or a script as ``X-CSRF-Token``)."""
    return _csrf(request.cookies.get(COOKIE, ""))


def _csrf(cookie: str) -> str:
    return hashed(f"form of {cookie}")


class Guard:
    """The outermost of the application: refuses what no route shall see, and tells browsers what they may do.

    ``hosts``: names that it may be asked under, besides this machine's own.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app, self.hosts = app, {*HERE, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            body = await self._checked(scope, receive)
            await self.app(scope, _replayed(body, receive), sent)
        except Problem as problem:
            await told(Request(scope), problem)(scope, receive, sent)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if begun:
                raise
            fault = other(500, "A fault of the service", "this should not happen", "its log says more")
            await told(Request(scope), fault)(scope, receive, sent)

    async def _checked(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request that may come in. Raises Problem."""
        headers = Headers(scope=scope)
        self._check_host(headers.get("host", ""))
        if "\0" in scope["path"] or b"\0" in unquote_to_bytes(scope["query_string"]):
            raise other(400, "Not understood", "the address holds a null byte")
        body = await _body(headers, receive)
        if scope["method"] not in SAFE:
            content = headers.get("content-type", "").partition(";")[0].strip().lower()
            if content == "application/json" or content.endswith("+json"):
                _check_json(body)
            if "authorization" not in headers:
                _check_page(scope, headers, body if content == "application/x-www-form-urlencoded" else b"")
        return body

    def _check_host(self, host: str) -> None:
        name = host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()
        if name not in self.hosts:
            raise other(
                421,
                "Not this host",
                f"asked as {name[:200]!a}",
                "add that name to 'hosts' in [service] of the settings",
            )


async def _body(headers: Headers, receive: Receive) -> bytes:
    """All of a body. Raises TooLarge, at the first byte too many."""
    too_large = TooLarge(f"more than {MOST_BODY >> 10} KiB were sent", "data belong into files of their own")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise other(400, "Not understood", "the Content-Length is not a number")
    if len(length) > 12 or int(length) > MOST_BODY:
        raise too_large
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise too_large
        more = message.get("more_body", False)
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that has been read once more."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _check_json(body: bytes) -> None:
    """Raises Problem (400) for what is not JSON, and for texts that cannot be kept."""
    if not body:
        return
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise other(400, "Not understood", "the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise other(400, "Not understood", "the body is not UTF-8") from None
    except ValueError as problem:
        raise other(400, "Not understood", f"the body is not JSON: {str(problem)[:200]}") from None
    open_to: list[Any] = [found]
    while open_to:
        one = open_to.pop()
        if isinstance(one, dict):
            open_to += [*one, *one.values()]
        elif isinstance(one, list):
            open_to += one
        elif isinstance(one, str) and ("\0" in one or any("\ud800" <= c <= "\udfff" for c in one)):
            raise other(400, "Not understood", "a text of the body holds a null byte or half a character")


def _check_page(scope: Scope, headers: Headers, form: bytes) -> None:
    """Raises Refused where another site's page has sent this, or a page without its session's text."""
    origin, host = headers.get("origin"), headers.get("host", "")
    foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if foreign or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
        raise Refused("another site's page has sent this", "use the service's own pages, or a token")
    cookie = Request(scope).cookies.get(COOKIE, "")
    if not cookie or scope["path"] == "/session":
        return
    try:
        fields = parse_qs(form.decode("ascii"), max_num_fields=1000)
    except ValueError:
        raise other(400, "Not understood", "the form cannot be read") from None
    given = headers.get(CSRF_HEADER) or fields.get(CSRF_FIELD, [""])[0]
    if not hmac.compare_digest(given.encode(), _csrf(cookie).encode()):
        raise Refused("the form does not come from a page of this session", "load the page again")
