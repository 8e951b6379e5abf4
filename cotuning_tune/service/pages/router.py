"""All pages as one router."""

from importlib import resources

from fastapi import APIRouter
from starlette.responses import Response

from cotuning_tune.service.pages import admin, me, runs, studies, submit
from cotuning_tune.service.pages.frame import Frame
from cotuning_tune.service.problems import Unknown

OWN, REPORT = "cotuning_tune.service.pages", "cotuning_tune.report"
STATIC = {  # the report's style is theirs too
    "htmx.min.js": (OWN, "static", "text/javascript"),
    "pages.js": (OWN, "static", "text/javascript"),
    "pages.css": (OWN, "static", "text/css"),
    "page.css": (REPORT, "assets", "text/css"),
}


def pages(frame: Frame) -> APIRouter:
    """The pages of a service, which the API's guard stands before."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    for module in (runs, studies, submit, me, admin):
        module.add(router, frame)

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        """A file that every page needs; the address changes with the version."""
        if name not in STATIC:
            raise Unknown(f"there is no file {name[:200]}")
        package, folder, kind = STATIC[name]
        content = (resources.files(package) / folder / name).read_bytes()
        return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=86400"})

    return router
