"""The engine that starts real drivers, by the backends of launching. Each run has a folder of launching of its own."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, place, read_json, write_json
from cotuning_tune.base.secrets import Secret
from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends import backend
from cotuning_tune.launch.claim import claim_of
from cotuning_tune.launch.profile import make_profile
from cotuning_tune.launch.record import attempt_name, private_folder, read_launch, write_private
from cotuning_tune.launch.verbs import launch, settled, stop
from cotuning_tune.runs import budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import DEAD_AFTER_S, holder, lives_here
from cotuning_tune.runs.share import write_share
from cotuning_tune.service.engine import Look, Row
from cotuning_tune.service.settings import Settings
from cotuning_tune.service.states import Engine, Seen

SHOWN = (
    *("state", "phase", "done", "budget", "failed", "running", "retrained", "retrain_budget", "best", "metrics"),
    *("trial_hours", "gpu_hours"),
)
FORESTALLED = "0 forestalled"
NOTE = "service.json"
NOTED = (  # of a run's row; the rest is found again
    *("id", "owner", "name", "backend", "experiment", "content", "private", "labels", "trials", "least", "most"),
    *("cost", "priority", "wanted", "attempt", "state", "created", "archived"),
)
Content = Mapping[str, Any]


class Drivers:
    """Starts, finds and stops the drivers of runs. ``clock``: monotonic seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.clock = settings, clock
        self.root = settings.root / "launches"
        self._signs: dict[str, tuple[bytes, float]] = {}
        self._stopping: dict[str, threading.Thread] = {}

    def capacity(self, backend: str) -> float:
        """Units of a backend, as its settings have them."""
        return self.settings.backend(backend).units

    def folder(self, run: Row) -> Path:
        """The run's folder of launching."""
        return self.root / str(run["id"])

    def look(self, run: Row) -> Look:
        """Look at the folder, the lock and the engine; what cannot be reached is not seen."""
        try:
            return self._look(run)
        except (OSError, UserError, ValueError):
            return Look(None)

    def _look(self, run: Row) -> Look:
        place_of_run = RunDir(place(run["folder"]))
        if is_local(place_of_run.path) and run["attempt"] and not place_of_run.path.parent.is_dir():
            return Look(None)  # the storage is away
        summary = _said(place_of_run.summary)
        attempt = self._attempt(run)
        ended = _said(place_of_run.ended)
        seen = Seen(
            done=_is_done(place_of_run, summary, run["trials"]),
            driver=self._is_driven(place_of_run),
            engine=attempt,
            code=ended.get("code"),
            progress=_progress(place_of_run, summary),
            reason=str(ended.get("line") or summary.get("reason") or ""),
        )
        shown = {name: summary[name] for name in SHOWN if name in summary}
        running = int(summary.get("running", 0)) if seen.driver else 0
        follows = summary.get("share") if seen.driver else None
        grown = run["trials"] is None or _trials(place_of_run, run) >= run["trials"]
        return Look(seen, running, follows if isinstance(follows, int) else None, grown, shown)

    def _attempt(self, run: Row) -> Engine:
        """What the engine says of the present attempt."""
        folder, number = self.folder(run), run["attempt"]
        if not number:
            return "absent"
        if _forestalled(folder, run):
            return "ended"
        found = read_launch(folder)
        if found is None or found.attempt < number:
            return "absent"
        found = settled(found)
        if found.starting:
            return "absent"
        state = backend(found.backend).state(found)
        return "queued" if state.startswith("queued") else "running" if state.startswith("running") else "ended"

    def _is_driven(self, run: RunDir) -> bool:
        """Whether somebody holds the run's lock: here the kernel tells, elsewhere signs of life within a minute."""
        if lives_here(run):
            return True
        if (owner := holder(run)) is None:
            self._signs.pop(str(run.path), None)
            return False
        sign = owner["token"].encode() + (run.beat.read_bytes() if run.beat.exists() else b"")
        before, since = self._signs.get(str(run.path), (b"", 0.0))
        if sign != before:
            self._signs[str(run.path)] = (sign, self.clock())
            return True
        return self.clock() - since < DEAD_AFTER_S

    def start(self, run: Row) -> None:
        """Start the present attempt by its backend, unless that was done. Raises UserError, OSError."""
        place_here = self.settings.backend(run["backend"])
        folder = private_folder(private_folder(self.root) / str(run["id"]))
        if _forestalled(folder, run):
            return
        found = read_launch(folder)
        if found and found.attempt == run["attempt"] and not found.starting:
            return
        RunDir(place(run["folder"])).ended.unlink(missing_ok=True)  # what it says from now on is of this attempt
        experiment = write_private(folder / "experiment.toml", run["experiment"])
        kind = backend(place_here.kind)
        profile = make_profile(kind.Profile, place_here.profile, place_here.kind)
        storage = self.settings.storage_of(run["owner"])
        studies = Secret(place_here.optuna_storage)
        asked = Request(
            experiment, run["name"], storage, studies, profile, folder, id=run["id"], attempt=run["attempt"]
        )
        launch(place_here.kind, asked)

    def grow(self, run: Row) -> None:
        """Give each study the trials that are wanted of it by now."""
        content = run["content"]
        budget.extend_to(RunDir(place(run["folder"])), content["trials"], content["hours"], run["trials"])

    def stop(self, run: Row) -> None:
        """Ask the driver to end; whoever drives the run on this machine, a person's too. Waits for nothing."""
        key = str(run["id"])
        if (thread := self._stopping.get(key)) is None or not thread.is_alive():
            self._stopping[key] = threading.Thread(target=self._stop, args=(run,), daemon=True)
            self._stopping[key].start()

    def _stop(self, run: Row) -> None:
        found = read_launch(self.folder(run))
        if found is not None:
            stop(found)

    def forestall(self, run: Row) -> None:
        """Take the claim of the present attempt, so that no start that is on its way becomes a driver."""
        folder = private_folder(private_folder(self.root) / str(run["id"]))
        claim = claim_of(folder, attempt_name(run["id"], run["attempt"]))
        claim.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = read_launch(folder)
        if found and found.attempt == run["attempt"] and found.backend != "local":
            backend(found.backend).clear(found)
        mine = claim.with_name("forestalled")
        mine.write_text(FORESTALLED, encoding="utf-8")
        try:
            claim.hardlink_to(mine)
        except FileExistsError:
            return

    def note(self, run: Row) -> None:
        """Write ``service.json`` into the run's folder, where there is one."""
        folder = place(run["folder"])
        if folder.is_dir():
            write_json(folder / NOTE, {name: run[name] for name in NOTED}, durable=False)

    def stored(self, run: Row) -> int:
        """Bytes of the run's folder; of one in an object store nothing is known."""
        folder = place(run["folder"])
        if not is_local(folder):
            return 0
        return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())

    def give(self, run: Row, share: int) -> None:
        """Write the share that the driver follows."""
        place_of_run = RunDir(place(run["folder"]))
        if is_local(place_of_run.path):
            place_of_run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_share(place_of_run, share)

    def log(self, run: Row) -> Path:
        """Where the driver's output lies, where it is kept on this machine."""
        return self.folder(run) / "log"


def _forestalled(folder: Path, run: Row) -> bool:
    try:
        return (
            claim_of(folder, attempt_name(run["id"], run["attempt"]))
            .read_text(encoding="utf-8")
            .startswith(FORESTALLED)
        )
    except (FileNotFoundError, NotADirectoryError):
        return False


def _trials(place_of_run: RunDir, run: Row) -> int:
    """How many trials each study shall have, as the folder has it."""
    content = run["content"]
    return budget.Budget(place_of_run, content["trials"], content["hours"]).most


def _said(path: Path) -> dict[str, Any]:
    """What a file of the driver says; nothing where there is none, or while it is replaced on an object store."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_done(run: RunDir, summary: Content, trials: int | None) -> bool:
    """Whether the folder holds all that is asked for; after an extension by the studies' own numbers."""
    if summary.get("state") != "done":
        return False
    if trials is None:
        return True
    studies = [folder.summary for folder in run.study_folders()]
    return bool(studies) and all(path.exists() and read_json(path)["budget"] >= trials for path in studies)


def _progress(run: RunDir, summary: Content) -> int:
    """What grows with every epoch that is kept: bytes of the rows that trainings have written."""
    if not is_local(run.path):
        return sum(int(summary.get(name, 0)) for name in ("done", "retrained"))
    return sum(
        training.metrics.stat().st_size
        for study in run.study_folders()
        for training in study.trainings()
        if training.metrics.exists()
    )
