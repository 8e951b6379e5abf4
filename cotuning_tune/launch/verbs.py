"""What can be done with a launch, whichever way it went."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place
from cotuning_tune.launch.profile import make_profile
from cotuning_tune.launch.record import Launch, find_launch, now, private_folder, root, write_private
from cotuning_tune.launch.storage import text_there
from cotuning_tune.launch.way import NOTHING_RUNS, Request
from cotuning_tune.launch.ways import way
from cotuning_tune.run.folder import RunDir, check_studies

LIVE = ("queued", "running")


def request_of(launch: Launch) -> Request:
    """The request that a launch came from."""
    profile = make_profile(way(launch.way).Profile, launch.profile, launch.way)
    where = (launch.name, launch.storage, launch.studies)
    return Request(Path(launch.experiment), *where, profile, root() / launch.name, launch.on_end)


def dry_run(way_name: str, request: Request) -> str:
    """The rendered files and the commands, as text; nothing is written, started or asked."""
    kind = way(way_name)
    kind.check(request)
    return kind.plan(request).shown(request.folder)


def _begin(way_name: str, request: Request, times: int) -> Launch:
    kind = way(way_name)
    kind.check(request)
    check_studies(place(request.storage), request.studies)
    plan = kind.plan(request)
    private_folder(root())
    private_folder(request.folder)
    if request.studies:
        write_private(request.folder / "studies.url", request.studies)
    for name, text in plan.files.items():
        write_private(request.folder / name, text)
    made = Launch(
        request.name,
        way_name,
        str(request.experiment.absolute()),
        request.storage,
        asdict(request.profile),
        started=now(),
        times=times,
        on_end=request.on_end,
    )
    made = replace(made, facts=kind.start(request, plan))
    made.save()
    return made


def launch(way_name: str, request: Request) -> Launch:
    """Start a run that way. Raises UserError where a launch of that name lives, or lies elsewhere."""
    try:
        old = find_launch(request.name)
    except UserError:
        return _begin(way_name, request, 1)
    if (old.way, old.storage) != (way_name, request.storage):
        raise UserError(
            f"'{old.name}' was launched before by {old.way} into {old.storage}: choose another name (--name),"
            f" or go on with that one (cotuning-tune launch resume {old.name})"
        )
    return _again(old, request)


def relaunch(old: Launch) -> Launch:
    """Start an ended launch again: the run goes on where it is. Raises UserError while it lives."""
    return _again(old, request_of(old))


def _again(old: Launch, request: Request) -> Launch:
    state = way(old.way).state(old)
    if state.startswith(LIVE):
        raise UserError(f"'{old.name}' is {state}: stop it first (cotuning-tune launch stop {old.name})")
    return _begin(old.way, request, old.times + 1)


def summary_of(launch: Launch) -> dict[str, Any]:
    """The run's summary file, {} where there is none or the storage is not reached from here."""
    try:
        return dict(json.loads(text_there(launch.run, lambda run: RunDir(run).summary) or "{}"))
    except ValueError:
        return {}


def state_of(launch: Launch) -> str:
    """Where a launch stands: what its way says, and what the run's summary says of the end."""
    state = way(launch.way).state(launch)
    if state == "ended":
        found = summary_of(launch)
        nothing = "unfinished" if launch.stopped else "failed"
        return str(found.get("state", nothing)) if found.get("state") != "running" else "killed"
    return state


def stop(launch: Launch) -> str:
    """End it in order."""
    said = way(launch.way).stop(launch)
    if said != NOTHING_RUNS:
        replace(launch, stopped=True).save()
    return said
