"""The pages Submit, with its check while one writes, and Queue."""

import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cotuning_tune.base.errors import UserError
from cotuning_tune.service.asked import Submission, refuse
from cotuning_tune.service.pages.frame import Fields, Frame, Sent, Who, seen, whole
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem
from cotuning_tune.service.queue import Demand, order
from cotuning_tune.service.states import AT_WORK

NEARBY = 2  # lines shown around a mistake
NOTHING: dict[str, object] = {"problem": None, "checked": None, "lines": []}
EXAMPLE = """\
[experiment]
tasks = ["fashion_mnist"]
rates = [0.4]
methods = ["fine_tune", "co_tuning"]
backbone = "efficientnet_lite0"
trials = 4

[task]
size = 64
resize = 72

[train]
epochs = 4
batch_size = 24
"""


def add(router: APIRouter, frame: Frame) -> None:
    """The pages of submitting and waiting."""
    runs = frame.service.runs

    @router.get("/submit")
    def begin(request: Request, who: Who) -> Response:
        """An empty form, or one with the experiment of a run (``from``)."""
        who.require("member")
        text, source = "", request.query_params.get("from", "")
        if source:
            text = runs.get(who, source)["experiment"]
        elif "example" in request.query_params:
            text = EXAMPLE
        sent = {"experiment": text}
        return _form(frame, request, who, sent, _checked(frame, sent))

    @router.post("/submit/check")
    def look(request: Request, who: Who, sent: Sent) -> Response:
        """The same form with what the check has found; nothing is kept."""
        who.require("member")
        return _form(frame, request, who, sent, _checked(frame, sent))

    @router.post("/submit")
    def submit(request: Request, who: Who, sent: Sent) -> Response:
        """Submit; on a mistake the same form again, with it."""
        who.require("member")
        try:
            run = runs.submit(who, _submission(sent), sent.get("key", ""))
        except UserError as found:
            problem = refuse(found)
            return _form(frame, request, who, sent, _mistake(problem, sent.get("experiment", "")), problem.status)
        return seen(f"/runs/{run['id']}")

    @router.get("/queue")
    def queue(request: Request, who: Who) -> Response:
        """Who works with how much, who waits and why."""
        places = [_place(frame, who, place.name) for place in frame.service.settings.places]
        return frame.show(request, who, "queue.html", {"live": True, "places": places})


def _form(
    frame: Frame, request: Request, who: Actor, sent: Fields, found: Mapping[str, object], status: int = 200
) -> Response:
    """The form as it was sent, with what was ``found``, and a new key for one submission."""
    ahead = sum(run["state"] == "queued" for run in frame.service.runs.queue(who))
    shown = {"sent": sent, "places": frame.service.settings.places, "key": secrets.token_urlsafe(16), "ahead": ahead}
    return frame.show(request, who, "submit.html", shown | NOTHING | dict(found), status)


def _checked(frame: Frame, sent: Fields) -> dict[str, object]:
    """What the check says of a form, for the page."""
    text, name = sent.get("experiment", ""), sent.get("name", "").strip() or "unnamed"
    if not text.strip():
        return {}
    try:
        _submission({**sent, "name": name})
        return {"checked": frame.service.runs.check(_unix(text), name)}
    except UserError as problem:
        return _mistake(refuse(problem), text)


def _unix(text: str) -> str:
    """A form's text as it was written: browsers send lines with both ends."""
    return text.replace("\r\n", "\n")


def _submission(sent: Fields) -> Submission:
    return Submission(
        experiment=_unix(sent.get("experiment", "")),
        name=sent.get("name", "").strip(),
        backend=sent.get("backend", ""),
        least=whole(sent, "least") or 1,
        most=whole(sent, "most") or 0,
        priority=whole(sent, "priority") or 0,
        labels=_labels(sent.get("labels", "")),
        private="private" in sent,
    )


def _labels(text: str) -> dict[str, str]:
    """``KEY=VALUE``, a line each. Raises Problem."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise Problem(f"the label '{line[:80]}'", "KEY=VALUE is possible, a line each", key="labels")
        found[name.strip()] = value.strip()
    return found


def _mistake(problem: Problem, text: str) -> dict[str, object]:
    """A problem with the lines of the experiment around it: number, text, whether it is the one."""
    lines = _unix(text).split("\n")
    near = range(max(problem.line - NEARBY, 1), min(problem.line + NEARBY, len(lines)) + 1) if problem.line else ()
    return {"problem": problem, "lines": [(n, lines[n - 1], n == problem.line) for n in near]}


def _place(frame: Frame, who: Actor, name: str) -> dict[str, Any]:
    """A backend: what there is, who has how much of it, and the queue in its order."""
    service = frame.service
    place = service.settings.backend(name)
    rows = [run for run in service.runs.queue(who) if run["backend"] == name]
    active = [run for run in rows if run["state"] in AT_WORK]
    used: dict[str, float] = {}
    for run in active:
        used[run["owner"]] = used.get(run["owner"], 0.0) + max(run["share"], run["least"]) * run["cost"]
    queued = {str(run["seq"]): run for run in rows if run["state"] == "queued"}
    asks = [_demand(number, run) for number, run in queued.items()]
    ordered = [queued[one.id] for one in order(asks, service.reconciler.people(service.now()))]
    return {
        "name": name,
        "units": place.units,
        "counts": "GPUs" if place.counts == "gpus" else "cores",
        "used": sorted(used.items(), key=lambda item: -item[1]),
        "active": active,
        "queued": ordered,
    }


def _demand(number: str, run: dict[str, Any]) -> Demand:
    return Demand(number, run["owner"], run["cost"], run["least"], priority=run["priority"], since=run["created"])
