"""What can be done with a launch, whichever backend it was made by.

A start is written down before it is made, with its attempt's number, and what came of it after: whoever is killed in
between leaves a record that says ``starting``. The next one asks the backend (``find``), and starts again under the
same number where there is nothing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock, Timeout

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place
from cotuning_tune.base.secrets import masked_settings
from cotuning_tune.launch.backend import HELD, NOTHING_RUNS, Request, Unsure
from cotuning_tune.launch.backends import backend
from cotuning_tune.launch.profile import make_profile
from cotuning_tune.launch.record import Launch, new_id, now, private_folder, read_launch, write_private
from cotuning_tune.launch.storage import text_there
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import lives_here
from cotuning_tune.runs.places import check_optuna_storage
from cotuning_tune.runs.summary import Content

LIVE = ("queued", "running")
NOT_STARTED = "not started: resume starts it"


class BeingStarted(UserError):  # noqa: N818 - what happened
    """Another process starts this launch at the moment."""


def request_of(launch: Launch) -> Request:
    """The request that a launch came from."""
    profile = make_profile(backend(launch.backend).Profile, launch.profile, launch.backend)
    where = (launch.name, launch.storage, launch.optuna_storage)
    made = Request(Path(launch.experiment), *where, profile, launch.folder, launch.on_end, launch.id, launch.attempt)
    return replace(made, concurrent=launch.concurrent)


def dry_run(backend_name: str, request: Request) -> str:
    """The rendered files and the commands, as text without secrets; nothing is written, started or asked."""
    kind = backend(backend_name)
    kind.check(request)
    shown = request.optuna_storage.cover(kind.plan(request).shown(request.folder))
    return masked_settings(shown, vars(request.profile).get("env", ()))


@contextmanager
def _alone(name: str, folder: Path) -> Iterator[None]:
    """One at a time starts a launch. Raises BeingStarted where another process does."""
    try:
        with FileLock(folder / "starting.lock", timeout=0):
            yield
    except Timeout:
        raise BeingStarted(f"'{name}' is being started at this moment: wait for it") from None


def launch(backend_name: str, request: Request) -> Launch:
    """Start a run by that backend, or start it again; its record is in the request's folder.

    Raises UserError where the launch of that folder lives, or is of another backend or storage.
    """
    backend(backend_name).check(request)
    check_optuna_storage(place(request.storage), request.optuna_storage)
    private_folder(request.folder.parent)
    private_folder(request.folder)
    with _alone(request.name, request.folder):
        old = read_launch(request.folder)
        if old and (old.backend, old.storage) != (backend_name, request.storage):
            raise UserError(
                f"'{old.name}' was launched before by {old.backend} into {old.storage}: choose another name (--name),"
                f" or continue that one (cotuning-tune launch resume {old.name})"
            )
        old = old and _settled(old)
        if old and not old.starting and (state := backend(old.backend).state(old)).startswith(LIVE):
            raise UserError(f"'{old.name}' is {state}: stop it first (cotuning-tune launch stop {old.name})")
        return _begin(backend_name, request, old)


def relaunch(old: Launch) -> Launch:
    """Start an ended launch again: the run continues where it is. Raises UserError while it lives."""
    return launch(old.backend, request_of(old))


def _begin(backend_name: str, request: Request, old: Launch | None) -> Launch:
    """The next attempt, or once more the one of which nothing has been started."""
    kind = backend(backend_name)
    number = max(old.attempt + (not old.starting) if old else 1, request.attempt)
    request = replace(request, id=(old.id if old else request.id) or new_id(), attempt=number)
    plan = kind.plan(request)
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
        attempt=number,
        on_end=request.on_end,
        id=request.id,
        starting=True,
        home=str(request.folder),
        concurrent=request.concurrent,
    )
    made.save()
    try:
        facts = kind.start(request, plan)
    except Unsure:
        raise
    except UserError:  # nothing has been started
        old.save() if old else made.forget()
        raise
    made = replace(made, facts=facts, starting=False)
    made.save()
    return made


def _settled(launch: Launch) -> Launch:
    """The launch with what its backend knows of an interrupted start; ``starting`` still where that is nothing."""
    facts = backend(launch.backend).find(launch) if launch.starting else None
    if facts is None:
        return launch
    launch = replace(launch, facts=facts, starting=False)
    launch.save()
    return launch


def settled(launch: Launch) -> Launch:
    """The launch; after an interrupted start with what its backend knows of it.

    ``starting`` still where nothing has been started. Raises UserError where its backend cannot be asked, BeingStarted
    where its start is not over.
    """
    if not launch.starting:
        return launch
    with _alone(launch.name, launch.folder):
        return _settled(read_launch(launch.folder) or launch)


def summary_of(launch: Launch) -> Content | None:
    """The run's summary file, None where there is none or the storage is not reached from here."""
    try:
        found: Content | None = json.loads(text_there(launch.run, lambda run: RunDir(run).summary) or "null")
    except ValueError:
        return None
    return found


def state_of(launch: Launch) -> str:
    """Where a launch stands: what its backend says, and what the run's summary says of the end."""
    try:
        launch = settled(launch)
    except BeingStarted:
        return "starting"
    except UserError as problem:
        return f"unknown ({problem})"
    if launch.starting:
        return NOT_STARTED
    state = backend(launch.backend).state(launch)
    if state == "ended":
        found = summary_of(launch)
        if found and found["state"] != "running":
            return found["state"]
        if lives_here(RunDir(place(launch.run))):
            return HELD
        return "killed" if found else "unfinished" if launch.stopped else "failed"
    return state


def stop(launch: Launch) -> str:
    """End it cleanly. Raises UserError, also while it is being started."""
    launch = settled(launch)
    if launch.starting:
        return backend(launch.backend).clear(launch)
    said = backend(launch.backend).stop(launch)
    if said != NOTHING_RUNS:
        replace(launch, stopped=True).save()
    return said
