"""Every path of a run. No other file knows names.

Imports neither torch nor ray, so that reports start fast.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cotuning_tune.base import former_names
from cotuning_tune.base.errors import Fenced, Unfinished, UserError
from cotuning_tune.base.files import (
    ROOM_BYTES,
    STORAGE_ERRORS,
    STORAGE_POLL_S,
    create,
    guarded,
    is_local,
    names_in,
    place,
    wait_for_storage,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialDir:
    """The folder of one trial, or of one seed of a retraining: they look alike."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """Written last: it exists if and only if the training ended."""
        return self.path / "result.json"

    @property
    def state(self) -> Path:
        """Where an interrupted training continues from; deleted when it has ended."""
        return self.path / "state.pt"

    @property
    def owner(self) -> Path:
        """Who trains here: the last one that began. Deleted when the training has ended."""
        return self.path / "owner"

    @property
    def owner_token(self) -> str:
        """Whose it is by that file; '' before anyone has begun."""
        try:
            return self.owner.read_text()
        except FileNotFoundError:
            return ""

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    def split(self, number: int) -> "TrialDir":
        """Where a trial trains on its further validation splits (from 1)."""
        return TrialDir(self.path / f"split{number}")

    @property
    def predictions(self) -> Path:
        """What the retrained model says of each test example; its hash stands in the result."""
        return self.path / "predictions.npz"

    def picture(self, tag: str) -> Path:
        """A picture that TensorBoard shows under ``tag``."""
        return self.path / f"{tag.replace('/', '_')}.png"

    @property
    def method(self) -> Path:
        """What the trained method tells of itself, where it has something to tell."""
        return self.path / "method.json"


@dataclass(frozen=True)
class StudyDir:
    """The folder of one study: a task at a sampling rate with a method."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def summary(self) -> Path:
        """The study as the search left it, for readers without optuna."""
        return self.path / "study.json"

    @property
    def selection(self) -> Path:
        return self.path / "selection.json"

    def trial(self, number: int) -> TrialDir:
        return TrialDir(self.path / "trials" / f"{number:04d}")

    def retrain(self, seed: int) -> TrialDir:
        return TrialDir(self.path / "retrain" / f"seed{seed}")

    def trainings(self) -> Iterator[TrialDir]:
        """The folders of trials and seeds that are there."""
        for kind in ("trials", "retrain"):
            yield from map(TrialDir, sorted((self.path / kind).glob("*")))


@dataclass(frozen=True)
class RunDir:
    """The folder of a run; made by ``create``, found again by ``open``."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "RunDir":
        """An existing run, with absolute path; UserError where there is none."""
        run = cls(place(path)).current()
        if not run.experiment_file.is_file():
            raise UserError(f"no run in {path}: {run.experiment_file.name} is missing there")
        return run

    def current(self) -> "RunDir":
        """The run itself. Raises UserError where its folder holds files under former names."""
        if found := next((name for name in former_names.FILES if (self.path / name).exists()), None):
            raise UserError(
                f"{self.path} is a run of an earlier version (it holds {found}), which this one cannot continue:"
                " start a new run under another name (--name)"
            )
        return self

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def experiment_file(self) -> Path:
        return self.path / "experiment.toml"

    @property
    def space_file(self) -> Path:
        return self.path / "space.toml"

    @property
    def environment(self) -> Path:
        return self.path / "env.json"

    @property
    def identity(self) -> Path:
        """Which run this is, whatever its folder is called."""
        return self.path / "run.json"

    @property
    def data_record(self) -> Path:
        """What the data were when the run began, and which changes were accepted since."""
        return self.path / "data.json"

    def data_files(self, task: str) -> Path:
        """Every example of a task by name, class and content."""
        return self.path / "data" / f"{task}.json.gz"

    @property
    def journal(self) -> Path:
        return self.path / "optuna.journal"

    @property
    def optuna_storage_file(self) -> Path:
        """The URL of the studies, where they are not in the journal."""
        return self.path / "optuna_storage.url"

    @property
    def budget(self) -> Path:
        """How many trials each study shall have, or hours the search, where the run has been extended."""
        return self.path / "budget.json"

    @property
    def share(self) -> Path:
        """How many of its trainings may run at the same time, where others limit that while its driver works."""
        return self.path / "share.json"

    @property
    def clock(self) -> Path:
        """How long drivers have searched, where the search has hours."""
        return self.path / "clock.json"

    @property
    def time_used(self) -> Path:
        """With how many trials per study the search ended when its hours were used."""
        return self.path / "time_used.json"

    @property
    def repeats_file(self) -> Path:
        """How many searches there shall be in all, where the search is repeated."""
        return self.path / "repeats.json"

    @property
    def repeats_folder(self) -> Path:
        return self.path / "repeats"

    @property
    def searches(self) -> int:
        """How many searches there shall be in all, the first one included."""
        try:
            return int(json.loads(self.repeats_file.read_text(encoding="utf-8"))["searches"])
        except FileNotFoundError:
            return 1

    def repeat(self, number: int) -> "RunDir":
        """The run of search ``number`` (from 2): found by its number, so that a renamed run keeps its repeats."""
        made = sorted(self.repeats_folder.glob(f"*-repeat{number}"))
        return RunDir(made[0] if made else self.repeats_folder / f"{self.name}-repeat{number}")

    def repeats(self) -> "list[RunDir]":
        """The runs of the further searches, by number, whether they have begun or not."""
        return [self.repeat(number) for number in range(2, self.searches + 1)]

    @property
    def first_search(self) -> "RunDir | None":
        """The run that this one repeats the search of; None of any other run."""
        owner = RunDir(self.path.parent.parent)
        return owner if self.path.parent.name == owner.repeats_folder.name and owner.searches > 1 else None

    @property
    def sizes(self) -> Path:
        """Bytes of the checkpoints, measured before the first trial."""
        return self.path / "sizes.json"

    @property
    def drivers(self) -> Path:
        """A file for each driver there has been; the newest number owns the run."""
        return self.path / "drivers"

    @property
    def summary(self) -> Path:
        """Where the run stands, for whoever looks from outside; its driver keeps it current."""
        return self.path / "summary.json"

    @property
    def ended(self) -> Path:
        """How the last launched driver ended, its exit code and its last line; it may have been killed since."""
        return self.path / "ended.json"

    @property
    def lock(self) -> Path:
        """Who drives the run."""
        return self.path / "driver.lock"

    @property
    def beat(self) -> Path:
        """Signs of life of the lock's owner, for observers on other machines."""
        return self.path / "driver.beat"

    @property
    def ledger(self) -> Path:
        return self.path / "test_ledger.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def trackers(self) -> Path:
        """What the trackers of a run keep, where the user's environment names no other place."""
        return self.path / "trackers"

    def tracked_by(self, name: str) -> Path:
        """Which trainings a tracker has whole, a line each."""
        return self.trackers / f"{name}.sent"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def exports(self) -> Path:
        """Exported models, where no other folder is named."""
        return self.path / "export"

    @property
    def ray(self) -> Path:
        return self.path / "ray"

    @property
    def studies_folder(self) -> Path:
        """Exists once a first trial has been handed out."""
        return self.path / "studies"

    def study(self, name: str) -> StudyDir:
        return StudyDir(self.studies_folder / name)

    def study_folders(self) -> Iterator[StudyDir]:
        """The studies that have a folder, by name."""
        for folder in sorted(self.studies_folder.glob("*")):
            if folder.is_dir():
                yield StudyDir(folder)

    def read_incarnation(self) -> int:
        """The number of the newest driver; 0 before the first."""
        return max((int(name) for name in names_in(self.drivers) if name.isdigit()), default=0)

    def check_writable(self, incarnation: int, size_bytes: int, say: Callable[[str], None] = log.info) -> None:
        """Wait for the storage and for room, then raise Fenced where a newer driver owns the run."""
        if is_local(self.path):
            wait_for_storage(self.experiment_file, ROOM_BYTES + size_bytes, say)
        newest = self.read_incarnation()
        if not newest:  # no driver has ever been there: the folder has vanished
            wait_for_storage(self.experiment_file, 0, say)
            newest = self.read_incarnation()
        if newest != incarnation:
            raise Fenced(f"driver {newest} owns {self.path} now, this process belongs to {incarnation}")

    @contextmanager
    def watched_storage(self, size_bytes: int, say: Callable[[str], None]) -> Iterator[None]:
        """While inside, say when the storage is full or has vanished, and when it is usable again.

        Whoever writes waits meanwhile; this tells the user why nothing moves. What the storage fails all the same
        (OSError: an end of the ledger, say, or what was read) ends the driver: raises Unfinished.
        """
        stopped = threading.Event()

        def watch() -> None:
            while not stopped.wait(STORAGE_POLL_S):
                wait_for_storage(self.experiment_file, ROOM_BYTES + size_bytes, say)

        if is_local(self.path):  # an object store tells of its outages itself
            threading.Thread(target=watch, daemon=True).start()
        try:
            with guarded(self.experiment_file):
                yield
        except OSError as problem:  # it went away in the middle of something that cannot be repeated
            here = str(problem.filename or "").startswith(str(self.path))
            if not (here or problem.errno in STORAGE_ERRORS):
                raise
            raise Unfinished(f"the storage failed ({problem})") from problem
        finally:
            stopped.set()

    def raise_incarnation(self, owner: Mapping[str, object] | None = None) -> int:
        """Make the caller the newest driver; workers of older ones stop before their next write.

        The file is created exclusively: of two drivers that start together each gets its own number.
        """
        while True:
            number = self.read_incarnation() + 1
            try:
                create(self.drivers / f"{number:04d}", json.dumps(owner or {}).encode())
            except FileExistsError:
                continue
            return number
