"""What all pages share: the templates, forms, and a problem as a page that says what to do."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from cotuning_tune import __version__
from cotuning_tune.service.http.bodies import Who
from cotuning_tune.service.http.guard import CSRF_FIELD, Service, actor, session_token
from cotuning_tune.service.pages.words import FILTERS, when
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import NotSignedIn, Problem

__all__ = ["Fields", "Frame", "Sent", "Who", "positive", "seen", "whole"]
Fields = Mapping[str, str]


async def fields(request: Request) -> Fields:
    """The texts of a form."""
    form = await request.form(max_files=0, max_fields=1000)
    return {name: value for name, value in form.items() if isinstance(value, str)}


Sent = Annotated[Fields, Depends(fields)]


def whole(sent: Fields, name: str) -> int | None:
    """A whole number of a form, None where the field is empty. Raises Problem."""
    text = sent.get(name, "").strip()
    if not text:
        return None
    if not text.lstrip("-").isdecimal() or len(text) > 12:
        raise Problem(f"{name} = '{text[:40]}'", "a whole number is possible", key=name)
    return int(text)


def positive(sent: Fields, name: str) -> float | None:
    """A number of at least 0, None where the field is empty. Raises Problem."""
    text = sent.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        raise Problem(f"{name} = '{text[:40]}'", "a number of at least 0 is possible", key=name)
    return value


def seen(address: str) -> RedirectResponse:
    """What a form that was carried out leads to; an address of this service's own."""
    return RedirectResponse(address, status_code=303)


class Frame:
    """Writes the pages of a service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.templates = Environment(
            loader=PackageLoader("cotuning_tune.service.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters.update(FILTERS)
        self.templates.filters["when"] = lambda time: when(time, service.now())
        self.templates.globals.update(csrf_field=CSRF_FIELD, version=__version__)

    def show(
        self, request: Request, who: Actor | None, template: str, values: Mapping[str, Any], status: int = 200
    ) -> HTMLResponse:
        """A page. ``values``: of the template; ``live`` there: its moving part asks for itself every two seconds."""
        query = f"?{request.url.query}" if request.url.query else ""
        known = {"who": who, "token": session_token(request), "here": request.url.path + query, "live": False}
        text = self.templates.get_template(template).render(known | dict(values))
        return HTMLResponse(text.encode("utf-8", "replace"), status)

    def problem(self, request: Request, problem: Problem) -> HTMLResponse:
        """A problem as a page; of who is not signed in, the one to sign in on."""
        who = None
        with suppress(Exception):  # of what went wrong, not knowing who asks is the least
            who = actor(request)
        template = "sign_in.html" if isinstance(problem, NotSignedIn) else "problem.html"
        return self.show(request, who, template, {"problem": problem, "link": ""}, problem.status)
