"""The pages Runs and Run, and what can be done to a run there."""

from collections import deque
from collections.abc import Mapping
from typing import Any, get_args

from fastapi import APIRouter, Request
from starlette.responses import Response

from cotuning_tune.service.pages import folders
from cotuning_tune.service.pages.frame import Fields, Frame, Sent, Who, seen, whole
from cotuning_tune.service.pages.words import MOVING
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import NotReady, Problem, Refused, Unknown
from cotuning_tune.service.reconciler import known
from cotuning_tune.service.states import AT_WORK, ENDED, State, Wanted, wish

EVENTS = 30  # that a page shows
REPORT_POLICY = (  # its script and style stand inside it; it may ask nobody and is nobody's session
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
VERBS: dict[str, Wanted] = {"pause": "pause", "resume": "run", "cancel": "cancel"}
ASKED = ("owner", "state", "label", "text")


def add(router: APIRouter, frame: Frame) -> None:
    """The pages of runs."""
    runs = frame.service.runs

    @router.get("/")
    def listed(request: Request, who: Who, cursor: str = "", archived: bool = False) -> Response:
        """Runs that he sees, the newest first."""
        asked = {name: request.query_params.get(name, "").strip()[:200] for name in ASKED}
        found = runs.listed(who, cursor=cursor, archived=archived, **{k: v for k, v in asked.items() if v})
        known = {"asked": asked, "archived": archived, "states": get_args(State), "cursor": cursor}
        any_asked = archived or cursor or any(asked.values())
        return frame.show(request, who, "runs.html", live=True, any_asked=bool(any_asked), **known, **found)

    @router.get("/runs/{identity}")
    def one(request: Request, who: Who, identity: str) -> Response:
        """A run: where it stands, what it has found, what can be done to it."""
        run = runs.get(who, identity)
        found: list[folders.Study] = []
        notice = ""
        try:
            found = folders.studies(run)
        except NotReady as problem:
            notice = str(problem)
        shown = {"run": run, "studies": found, "notice": notice, "events": _events(frame, who, identity)}
        shown |= {"can": _possible(who, run), "version_now": run["version"], "at_work": run["state"] in AT_WORK}
        return frame.show(request, who, "run.html", live=run["state"] in MOVING, **shown)

    @router.post("/runs/{identity}/{verb}")
    def carry_out(who: Who, identity: str, verb: str, sent: Sent) -> Response:
        """What a button of the page asks for."""
        if verb in VERBS:
            runs.wish(who, identity, VERBS[verb])
        elif verb == "extend":
            if (trials := whole(sent, "trials")) is None:
                raise Problem("no number of trials was given", "say how many each study shall have in all")
            runs.patch(who, identity, trials=trials)
        elif verb == "change":
            runs.patch(who, identity, version=whole(sent, "version"), **_changes(sent))
        elif verb == "archive":
            runs.archive(who, identity)
        else:
            raise Unknown(f"a run cannot be told to {verb[:40]}")
        return seen(f"/runs/{identity}")

    @router.get("/runs/{identity}/report")
    def report(who: Who, identity: str) -> Response:
        """The run's report: a page of the run's, which is shut in."""
        content = folders.report(runs.get(who, identity))
        if content is None:
            raise Unknown("this run has no report yet", "it is written when the run is done")
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


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
    return found | ended | {"change"} | ({"extend"} if run["state"] != "cancelled" else set())


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
