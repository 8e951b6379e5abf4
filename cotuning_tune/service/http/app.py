"""The application: the API's routes behind the guard, and what becomes of a request that cannot be answered."""

import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cotuning_tune import __version__
from cotuning_tune.base.errors import UserError
from cotuning_tune.service.asked import refuse
from cotuning_tune.service.http import events, folders, health, made, people, runs
from cotuning_tune.service.http.answers import Answer, other, told
from cotuning_tune.service.http.guard import Guard, Service, actor
from cotuning_tune.service.pages.frame import Frame
from cotuning_tune.service.pages.router import pages
from cotuning_tune.service.problems import NotReady, Problem, Unknown

log = logging.getLogger(__name__)
PREFIX = "/api/v1"
SIGNED_IN = [Depends(actor)]
PROBLEM = {
    "application/problem+json": {"schema": {"type": "object", "required": ["title", "status", "detail", "cure"]}}
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A problem (RFC 9457): detail, cure; key, file, line where they are known",
        "content": PROBLEM,
    }
}
TITLES = {400: "Not understood", 405: "Not possible here"}


def make_app(service: Service) -> FastAPI:
    """The application over a service: the API, signing in, health and metrics."""
    app = FastAPI(
        title="cotuning_tune",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        default_response_class=Answer,
        redirect_slashes=False,
    )
    app.state.service, app.state.hub, app.state.frame = service, events.Hub(service.runs), Frame(service)
    app.add_middleware(Guard, hosts=service.settings.hosts)
    _add_problems(app)
    api = APIRouter(prefix=PREFIX, dependencies=SIGNED_IN, responses=PROBLEMS)

    @api.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        found = app.openapi()
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return found | {"security": [{"token": []}]}

    for one in (runs.router, folders.router, made.router, people.router, events.router):
        api.include_router(one)
    app.include_router(api)
    app.include_router(health.router)
    app.include_router(pages(app.state.frame))
    return app


def _add_problems(app: FastAPI) -> None:
    """Every refusal is a problem of RFC 9457."""

    @app.exception_handler(UserError)
    def _user(request: Request, problem: UserError) -> Response:
        return told(request, refuse(problem))

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, problem: RequestValidationError) -> Response:
        return _validation(request, problem)

    @app.exception_handler(HTTPException)
    def _http(request: Request, problem: HTTPException) -> Response:
        if problem.status_code == 404:
            return told(request, Unknown(f"there is nothing at {request.url.path[:200]}"))
        title = TITLES.get(problem.status_code, "The request cannot be carried out")
        return told(request, other(problem.status_code, title, str(problem.detail)[:400]), problem.headers)

    @app.exception_handler(sa.exc.OperationalError)
    def _database(request: Request, problem: sa.exc.OperationalError) -> Response:
        log.error("the database: %s", problem.orig)
        return told(request, NotReady("the database cannot be used now", "try again later"))

    @app.exception_handler(OSError)
    def _storage(request: Request, problem: OSError) -> Response:
        log.error("%s: %s", request.url.path, problem)
        return told(request, NotReady("the run's folder cannot be read now", "try again later"))


def _validation(request: Request, problem: RequestValidationError) -> Response:
    """The first of what is wrong as the detail; all of it in ``errors``, without what was sent."""
    found = [{"key": _key(one), "detail": str(one["msg"])} for one in problem.errors()[:20]]
    first = found[0]
    text = f"{first['key']}: {first['detail']}" if first["key"] else first["detail"]
    return told(request, Problem(text, key=first["key"]), errors=found)


def _key(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"][1:])[:200]
