"""Routes of what is made from runs: exported models, TensorBoards."""

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as InPath
from starlette.responses import FileResponse

from cotuning_tune.service import comparisons
from cotuning_tune.service.http.bodies import Asked, Body, Id, Name, Text, Who

router = APIRouter(tags=["what is made from runs"])
Kind = Annotated[str, InPath(max_length=40)]


class ExportBody(Body):
    """A model to export."""

    format: Text


@router.post("/runs/{run}/exports", status_code=202)
def export(run: Id, asked: ExportBody, who: Who, service: Asked) -> dict[str, Any]:
    """Export the model that the run's report says to take; repeating it starts nothing."""
    return service.exports.begin(who, run, asked.format)


@router.get("/runs/{run}/exports")
def exports(run: Id, who: Who, service: Asked) -> dict[str, Any]:
    """Every export of a run: its format, state and files."""
    return {"exports": service.exports.listed(who, run)}


@router.get("/runs/{run}/exports/{kind}/{name:path}", response_class=FileResponse)
def exported(run: Id, kind: Kind, name: Name, who: Who, service: Asked) -> FileResponse:
    """A file of an export."""
    path = service.exports.file(who, run, kind, name)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.post("/runs/{run}/tensorboard", status_code=201)
def board(run: Id, who: Who, service: Asked) -> dict[str, str]:
    """The address of a TensorBoard on a run; who knows it may look, until nobody has for half an hour."""
    return {"url": service.board(who, [run])}


@router.post("/comparisons/{comparison}/tensorboard", status_code=201)
def boards(comparison: Id, who: Who, service: Asked) -> dict[str, str]:
    """The address of a TensorBoard on the runs of a comparison."""
    found = comparisons.get(service.runs, who, comparison)
    return {"url": service.board(who, [run["id"] for run in found["runs"]])}
