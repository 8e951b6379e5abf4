"""What can be done with a launch, whichever backend it was made by."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place
from cotuning_tune.base.secrets import masked_settings
from cotuning_tune.launch.backend import NOTHING_RUNS, Request
from cotuning_tune.launch.backends import backend
from cotuning_tune.launch.profile import make_profile
from cotuning_tune.launch.record import Launch, find_launch, now, private_folder, root, write_private
from cotuning_tune.launch.storage import text_there
from cotuning_tune.runs.folder import RunDir, check_optuna_storage
from cotuning_tune.runs.summary import Content

LIVE = ("queued", "running")


def request_of(launch: Launch) -> Request:
    """The request that a launch came from."""
    profile = make_profile(backend(launch.backend).Profile, launch.profile, launch.backend)
    where = (launch.name, launch.storage, launch.optuna_storage)
    return Request(
        Path(launch.experiment), *where, profile, root() / launch.name, launch.on_end, concurrent=launch.concurrent
    )


def dry_run(backend_name: str, request: Request) -> str:
    """The rendered files and the commands, as text without secrets; nothing is written, started or asked."""
    kind = backend(backend_name)
    kind.check(request)
    shown = request.optuna_storage.cover(kind.plan(request).shown(request.folder))
    return masked_settings(shown, vars(request.profile).get("env", ()))


def _begin(backend_name: str, request: Request, times: int) -> Launch:
    kind = backend(backend_name)
    kind.check(request)
    check_optuna_storage(place(request.storage), request.optuna_storage)
    plan = kind.plan(request)
    private_folder(root())
    private_folder(request.folder)
    if request.optuna_storage:
        write_private(request.folder / "optuna_storage.url", request.optuna_storage.reveal())
    for name, text in plan.files.items():
        write_private(request.folder / name, text)
    made = Launch(
        request.name,
        backend_name,
        str(request.experiment.absolute()),
        request.storage,
        asdict(request.profile),
        started=now(),
        times=times,
        on_end=request.on_end,
        concurrent=request.concurrent,
    )
    made = replace(made, facts=kind.start(request, plan))
    made.save()
    return made


def launch(backend_name: str, request: Request) -> Launch:
    """Start a run by that backend. Raises UserError where a launch of that name lives, or lies elsewhere."""
    try:
        old = find_launch(request.name)
    except UserError:
        return _begin(backend_name, request, 1)
    if (old.backend, old.storage) != (backend_name, request.storage):
        raise UserError(
            f"'{old.name}' was launched before by {old.backend} into {old.storage}: choose another name (--name),"
            f" or continue that one (cotuning-tune launch resume {old.name})"
        )
    return _again(old, request)


def relaunch(old: Launch) -> Launch:
    """Start an ended launch again: the run continues where it is. Raises UserError while it lives."""
    return _again(old, request_of(old))


def _again(old: Launch, request: Request) -> Launch:
    state = backend(old.backend).state(old)
    if state.startswith(LIVE):
        raise UserError(f"'{old.name}' is {state}: stop it first (cotuning-tune launch stop {old.name})")
    return _begin(old.backend, request, old.times + 1)


def summary_of(launch: Launch) -> Content | None:
    """The run's summary file, None where there is none or the storage is not reached from here."""
    try:
        found: Content | None = json.loads(text_there(launch.run, lambda run: RunDir(run).summary) or "null")
    except ValueError:
        return None
    return found


def state_of(launch: Launch) -> str:
    """Where a launch stands: what its backend says, and what the run's summary says of the end."""
    state = backend(launch.backend).state(launch)
    if state == "ended":
        found = summary_of(launch)
        if found is None:
            return "unfinished" if launch.stopped else "failed"
        return "killed" if found["state"] == "running" else found["state"]
    return state


def stop(launch: Launch) -> str:
    """End it cleanly."""
    said = backend(launch.backend).stop(launch)
    if said != NOTHING_RUNS:
        replace(launch, stopped=True).save()
    return said
