"""Answers of the API: JSON that every reader can read, and problems as RFC 9457 has them."""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cotuning_tune.service.problems import Problem

RETRY_S = {429: "5", 503: "5"}


def plain(value: object) -> object:
    """The same with null for what is not a number (NaN, infinity), which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def packed(value: object) -> bytes:
    """A value as JSON in UTF-8; what is not text there, as of a file's name, is escaped."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


class Answer(JSONResponse):
    """An answer as JSON."""

    def render(self, content: Any) -> bytes:
        """Its bytes, with the end of a line for terminals."""
        return packed(content) + b"\n"


class ProblemAnswer(Answer):
    """A problem as an answer."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None, **more: object) -> None:
        status = problem.status
        said = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        said |= {"Retry-After": RETRY_S[status]} if status in RETRY_S else {}
        super().__init__(problem.content() | more, status, {**said, **(headers or {})})


def told(request: Request, problem: Problem, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """A problem as who asks can read it: a browser as a page, everything else as RFC 9457 has it."""
    if "text/html" in request.headers.get("accept", ""):
        page: Response = request.app.state.frame.problem(request, problem)
        return page
    return ProblemAnswer(problem, headers, **more)


def other(status: int, title: str, detail: str, cure: str = "") -> Problem:
    """A problem of a status that has no class of its own."""
    problem = Problem(detail, cure)
    problem.status, problem.title = status, title
    return problem
