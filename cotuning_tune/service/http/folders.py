"""Routes that show what lies in a run's folder: studies, trials, tables, its report, its log."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi import Path as InPath
from starlette.responses import Response, StreamingResponse

from cotuning_tune.service import shown
from cotuning_tune.service.http.answers import other
from cotuning_tune.service.http.bodies import Asked, Id, Name, Who
from cotuning_tune.service.problems import Unknown

router = APIRouter(prefix="/runs/{run}", tags=["what a run's folder shows"])
CHUNK = 1 << 18
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
KINDS = {"html": "text/html", "md": "text/markdown", "csv": "text/csv", "tex": "text/plain", "svg": "image/svg+xml"}
KINDS |= {"png": "image/png", "json": "application/json"}
# A report's page brings its script and styles with it: it gets an origin of its own, and reads nothing of the service.
ALONE = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)
Number = Annotated[int, InPath(ge=0, le=shown.MOST_TRIAL)]


@router.get("/studies")
def studies(run: Id, who: Who, service: Asked) -> dict[str, Any]:
    """Each study that has begun."""
    return {"studies": shown.studies(service.runs.get(who, run))}


@router.get("/studies/{study}")
def study(run: Id, study: Name, who: Who, service: Asked) -> dict[str, Any]:
    """A study with all its trials."""
    return shown.study(service.runs.get(who, run), study)


@router.get("/studies/{study}/trials/{number}")
def trial(run: Id, study: Name, number: Number, who: Who, service: Asked) -> dict[str, Any]:
    """A trial with all its epochs."""
    return shown.trial(service.runs.get(who, run), study, number)


@router.get("/tables")
def tables(run: Id, who: Who, service: Asked) -> dict[str, Any]:
    """How far a run is as a table, and the tables of its report once there is one."""
    found = shown.tables(service.runs.get(who, run))
    return {"tables": [{"name": t.name, "title": t.title, "header": t.header, "rows": t.rows} for t in found]}


@router.get("/report")
def report(run: Id, who: Who, service: Asked) -> dict[str, Any]:
    """The names of the files of a run's report."""
    return {"files": shown.report_files(service.runs.get(who, run))}


@router.get("/report/{name:path}", response_class=Response)
def report_file(run: Id, name: Name, who: Who, service: Asked) -> Response:
    """A file of a run's report."""
    content = shown.report_file(service.runs.get(who, run), name)
    kind = KINDS.get(name.rpartition(".")[2], "application/octet-stream")
    return Response(content, media_type=kind, headers={"Content-Security-Policy": ALONE})


@router.get("/log", response_class=Response)
def log(run: Id, who: Who, service: Asked, range: Annotated[str, Header(max_length=100)] = "") -> Response:
    """What a run's drivers have said; a part of it by ``Range: bytes=FROM-``."""
    path = service.reconciler.engine.log(service.runs.get(who, run))
    if path is None:
        raise Unknown("this run's log is not on this machine", "cotuning-tune launch log shows it there")
    size = path.stat().st_size if path.is_file() else 0
    first, last, status = _part(range, size)
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(last - first)}
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
    content = _read(path, first, last) if last > first else iter(())
    return StreamingResponse(content, status, headers, media_type="text/plain; charset=utf-8")


def _part(text: str, size: int) -> tuple[int, int, int]:
    """From where and up to where (not included) a range goes, and the status of its answer. Raises Problem (416)."""
    found = RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size, 200  # as the standard has it: another text asks for all
    first = int(found[1]) if found[1] else max(size - int(found[2]), 0)
    last = min(int(found[2]) + 1, size) if found[1] and found[2] else size
    if first >= size:
        raise other(416, "Nothing there", f"the log has {size} bytes", "ask again later: it may grow")
    return (first, last, 206) if last > first else (0, size, 200)


def _read(path: Path, first: int, last: int) -> Iterator[bytes]:
    """These bytes of a file, which may grow meanwhile."""
    with path.open("rb") as file:
        file.seek(first)
        while first < last and (found := file.read(min(CHUNK, last - first))):
            first += len(found)
            yield found
