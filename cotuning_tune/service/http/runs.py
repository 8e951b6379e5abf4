"""Routes of runs: checking, submitting, listing, changing, ending; comparisons, the queue and the backends."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from cotuning_tune.service import comparisons
from cotuning_tune.service.asked import Submission, tag_of
from cotuning_tune.service.http.answers import Answer
from cotuning_tune.service.http.bodies import (
    DEFAULT_PAGE,
    Asked,
    ChangeBody,
    CheckBody,
    ComparisonBody,
    Cursor,
    Id,
    Key,
    Page,
    RunBody,
    Tag,
    Who,
    Word,
)
from cotuning_tune.service.once import once
from cotuning_tune.service.states import Wanted

router = APIRouter(tags=["runs"])


def _tagged(run: dict[str, Any], status: int = 200, **headers: str) -> Response:
    """A run with its tag as ETag."""
    return Answer(run | {"tag": tag_of(run)}, status, {"ETag": f'"{tag_of(run)}"', **headers})


@router.post("/checks")
def check(asked: CheckBody, who: Who, service: Asked) -> dict[str, Any]:
    """Look at an experiment: what it would take, or the first mistake with its line and cure. Nothing is kept."""
    who.require("member")
    Submission(experiment=asked.experiment, name=asked.name)
    found = service.runs.check(asked.experiment, asked.name)
    return {"trials": found.trials, "gpus": found.gpus, "cpus": found.cpus, **found.content}


@router.post("/runs", status_code=201)
def submit(asked: RunBody, who: Who, service: Asked, key: Key) -> Response:
    """Submit a run; it is queued."""
    run = service.runs.submit(who, Submission(**asked.model_dump()), key)
    return _tagged(run, 201, Location=f"/api/v1/runs/{run['id']}")


@router.get("/runs")
def listed(
    who: Who,
    service: Asked,
    cursor: Cursor = "",
    limit: Page = DEFAULT_PAGE,
    owner: Word = "",
    state: Word = "",
    label: Word = "",
    text: Word = "",
    archived: bool = False,
) -> dict[str, Any]:
    """Runs, the newest first; ``next``: the cursor of the next page, '' at the end."""
    wanted = {"owner": owner, "state": state, "label": label, "text": text}
    return service.runs.listed(who, cursor=cursor, limit=limit, archived=archived, **wanted)


@router.get("/runs/{run}")
def one(run: Id, who: Who, service: Asked) -> Response:
    """All of a run, with a tag (ETag) that changes with what people change of it."""
    return _tagged(service.runs.get(who, run))


@router.patch("/runs/{run}")
def change(run: Id, asked: ChangeBody, who: Who, service: Asked, tag: Tag) -> Response:
    """Change a run; with If-Match only where it still has that tag."""
    return _tagged(service.runs.patch(who, run, tag=tag, **asked.model_dump()))


@router.delete("/runs/{run}")
def remove(run: Id, who: Who, service: Asked, purge: bool = False) -> Response:
    """Take an ended run out of the lists; with ``purge`` its folder is deleted too."""
    return _tagged(service.runs.archive(who, run, purge=purge))


def _wish(name: str, wanted: Wanted) -> None:
    def route(run: Id, who: Who, service: Asked) -> Response:
        return _tagged(service.runs.wish(who, run, wanted), 202)

    route.__doc__ = f"Ask for a run to {name}; asking again changes nothing."
    router.post(f"/runs/{{run}}/{name}", status_code=202, name=name)(route)


_wish("pause", "pause")
_wish("resume", "run")
_wish("cancel", "cancel")


@router.get("/queue")
def queue(who: Who, service: Asked) -> dict[str, Any]:
    """Runs that wait or work, each with why it waits."""
    return {"runs": service.runs.queue(who)}


@router.get("/backends")
def backends(service: Asked) -> dict[str, Any]:
    """Where runs may be put, and how many trials of one GPU (or core) each has room for."""
    shown = ("name", "kind", "units", "counts")
    return {"backends": [{name: getattr(place, name) for name in shown} for place in service.settings.places]}


@router.post("/comparisons", status_code=201)
def compare(asked: ComparisonBody, who: Who, service: Asked, key: Key) -> dict[str, Any]:
    """Keep runs side by side."""
    said = {"comparisons": asked.runs}
    now = service.now()
    return once(service.store, who, key, said, lambda: comparisons.add(service.runs, who, asked.runs), now)


@router.get("/comparisons")
def own_comparisons(who: Who, service: Asked) -> dict[str, Any]:
    """One's own comparisons."""
    return {"comparisons": comparisons.listed(service.runs, who)}


@router.get("/comparisons/{comparison}")
def comparison(comparison: Id, who: Who, service: Asked) -> dict[str, Any]:
    """Runs side by side: the settings that differ, and each one's studies."""
    return comparisons.get(service.runs, who, comparison)
