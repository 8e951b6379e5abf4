"""The pages Runs and Run, and what can be done to a run there."""

from collections import deque
from collections.abc import Mapping
from typing import Any, get_args

from fastapi import APIRouter, Request
from starlette.responses import Response

from cotuning_tune.service.asked import PAGE
from cotuning_tune.service.exports import FORMATS
from cotuning_tune.service.pages import folders
from cotuning_tune.service.pages.frame import Fields, Frame, Sent, Who, seen, whole
from cotuning_tune.service.pages.words import MOVING
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem, Refused, Unknown
from cotuning_tune.service.reconciler import known
from cotuning_tune.service.states import AT_WORK, ENDED, State, Wanted, wish
from cotuning_tune.service.whole import Service

EVENTS = 30  # that a page shows
LOG_BYTES = 64 * 1024  # of a log's end
VERBS: dict[str, Wanted] = {"pause": "pause", "resume": "run", "cancel": "cancel"}
ASKED = ("owner", "state", "label", "text")


def add(router: APIRouter, frame: Frame) -> None:
    """The pages of runs."""
    runs = frame.service.runs

    @router.get("/")
    def listed(request: Request, who: Who, cursor: str = "", archived: bool = False) -> Response:
        """Runs that he sees, the newest first."""
        asked = {name: request.query_params.get(name, "").strip()[:200] for name in ASKED}
        found = runs.listed(who, cursor=cursor, limit=PAGE, archived=archived, **asked)
        shown = found | {"asked": asked, "archived": archived, "states": get_args(State), "live": True}
        shown["any_asked"] = bool(archived or cursor or any(asked.values()))
        return frame.show(request, who, "runs.html", shown)

    @router.get("/runs/{identity}")
    def one(request: Request, who: Who, identity: str) -> Response:
        """A run: where it stands, what it has found, what can be done to it."""
        run = runs.get(who, identity)
        shown: dict[str, Any] = {
            "run": run,
            "studies": [],
            "report": False,
            "notice": "",
            "events": _events(frame, who, identity),
        }
        shown |= {"exports": [], "formats": FORMATS}
        try:
            shown |= {"studies": folders.studies(run), "report": folders.has_report(run)}
            if run["state"] == "done":
                shown["exports"] = frame.service.exports.listed(who, identity)
        except Problem as problem:
            shown["notice"] = str(problem)
        exporting = any(one["state"] == "running" for one in shown["exports"])
        shown |= {"can": _possible(who, run), "at_work": run["state"] in AT_WORK}
        shown["live"] = run["state"] in MOVING or exporting
        return frame.show(request, who, "run.html", shown)

    @router.post("/runs/{identity}/{verb}")
    def carry_out(who: Who, identity: str, verb: str, sent: Sent) -> Response:
        """What a button of the page asks for."""
        _carry_out(frame.service, who, identity, verb, sent)
        return seen(f"/runs/{identity}")

    @router.get("/runs/{identity}/log")
    def log(request: Request, who: Who, identity: str) -> Response:
        """The end of what the run's drivers have said."""
        run = runs.get(who, identity)
        shown = {"run": run, "text": _end(frame, run), "whole": f"/api/v1/runs/{run['id']}/log"}
        return frame.show(request, who, "log.html", shown | {"live": run["state"] in AT_WORK})


def _end(frame: Frame, run: Mapping[str, Any]) -> str:
    """The last lines of a run's log. Raises Unknown where it is not on this machine."""
    path = frame.service.reconciler.engine.log(run)
    if path is None:
        raise Unknown("this run's log is not on this machine", "cotuning-tune launch log shows it there")
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - LOG_BYTES, 0))
        return file.read(LOG_BYTES).decode("utf-8", "replace")


def _carry_out(service: Service, who: Actor, identity: str, verb: str, sent: Fields) -> None:
    runs = service.runs
    if verb in VERBS:
        runs.wish(who, identity, VERBS[verb])
    elif verb == "extend":
        if (trials := whole(sent, "trials")) is None:
            raise Problem("no number of trials was given", "say how many each study shall have in all")
        runs.patch(who, identity, trials=trials)
    elif verb == "change":
        runs.patch(who, identity, tag=sent.get("tag", ""), **_changes(sent))
    elif verb == "archive":
        runs.archive(who, identity)
    elif verb == "export":
        service.exports.begin(who, identity, sent.get("format", ""))
    else:
        raise Unknown(f"a run cannot be told to {verb[:40]}")


def _changes(sent: Fields) -> dict[str, Any]:
    return {name: whole(sent, name) for name in ("least", "most", "priority")} | {"private": "private" in sent}


def _possible(who: Actor, run: Mapping[str, Any]) -> set[str]:
    """Which buttons a run's page has for who looks at it."""
    try:
        who.check_changes(run)
    except Refused:
        return set()
    now = known(run)
    found = {verb for verb, wanted in VERBS.items() if wish(now, wanted) not in (None, now)}
    ended = {"archive"} if run["state"] in ENDED and not run["archived"] else set()
    done = {"export"} if run["state"] == "done" else set()
    return found | ended | done | {"change"} | ({"extend"} if run["state"] != "cancelled" else set())


def _events(frame: Frame, who: Actor, identity: str) -> list[dict[str, Any]]:
    """The run's last events, the newest first."""
    kept: deque[dict[str, Any]] = deque(maxlen=EVENTS)
    after = 0
    while True:
        found, last = frame.service.runs.events(who, after, run=identity)
        kept.extend(found)
        if last == after:
            return list(reversed(kept))
        after = last
