"""Every path of a run, and how files are written: by rename, after fsync. No other file knows names.

Reads and writes files only; imports neither torch nor ray, so that reports start fast.
"""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.errors import Fenced, UserError

log = logging.getLogger(__name__)
STORAGE_POLL_S = 5.0
ROOM_BYTES = 16 << 20


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old or the new content, never a part; makes the folder.

    ``durable`` also waits until the disk has it (fsync of file and folder).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's entries: a rename is durable only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def wait_for_storage(marker: Path, needed_bytes: int, say: Callable[[str], None] = log.warning) -> None:
    """Wait until the storage is there (``marker`` exists) and has room; says so once, and when it goes on.

    A full disk or a vanished mount pauses whoever writes: nothing is lost, nothing is made elsewhere.
    """
    waited = False
    while problem := _storage_problem(marker, needed_bytes):
        if not waited:
            say(f"paused: {problem}; goes on by itself when that is mended")
        waited = True
        time.sleep(STORAGE_POLL_S)
    if waited:
        say("going on: the storage is usable again")


def _storage_problem(marker: Path, needed_bytes: int) -> str:
    try:
        marker.stat()
        free = shutil.disk_usage(marker.parent).free
    except OSError as problem:
        return f"{marker.parent} has vanished ({problem.strerror})"
    if free < needed_bytes:
        return f"the disk of {marker.parent} is full ({free >> 20} MiB free, {needed_bytes >> 20} needed)"
    return ""


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON by rename; NaN is refused, for no other reader of JSON knows it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), durable=durable)


def read_json(path: Path) -> Any:
    """The content of a JSON file; UserError with the path where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except ValueError as problem:
        raise UserError(f"{path} is damaged: {problem}") from None


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON-lines file by rename, without waiting for the disk."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_bytes(path, text.encode(), durable=False)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; a missing file has none, a half-written last line is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n"):  # splitlines() also cuts at U+2028
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


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
        """Where an interrupted training goes on from; deleted when it has ended."""
        return self.path / "state.pt"

    @property
    def best_weights(self) -> Path:
        """Weights of the epoch with the best validation accuracy so far."""
        return self.path / "best.pt"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"


@dataclass(frozen=True)
class CellDir:
    """The folder of one cell: a task at a sampling rate with a method."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def summary(self) -> Path:
        """The cell's study as the search left it, for readers without optuna."""
        return self.path / "study.json"

    @property
    def selection(self) -> Path:
        return self.path / "selection.json"

    def trial(self, number: int) -> TrialDir:
        return TrialDir(self.path / "trials" / f"{number:04d}")

    def retrain(self, seed: int) -> TrialDir:
        return TrialDir(self.path / "retrain" / f"seed{seed}")


@dataclass(frozen=True)
class RunDir:
    """The folder of a run; made by ``create``, found again by ``open``."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "RunDir":
        """An existing run, with absolute path; UserError where there is none."""
        run = cls(Path(path).resolve())
        if not run.experiment_file.is_file():
            raise UserError(f"no run in {path}: {run.experiment_file.name} is missing there")
        return run

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
    def studies(self) -> Path:
        return self.path / "studies.journal"

    @property
    def studies_url(self) -> Path:
        """The URL of the studies, where they are not in the journal."""
        return self.path / "studies.url"

    @property
    def budget(self) -> Path:
        """How many trials a cell shall have, where the run has been extended."""
        return self.path / "budget.json"

    @property
    def drivers(self) -> Path:
        """A file for each driver there has been; the newest number owns the run."""
        return self.path / "drivers"

    @property
    def lock(self) -> Path:
        return self.path / "driver.lock"

    @property
    def ledger(self) -> Path:
        return self.path / "test_ledger.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def ray(self) -> Path:
        return self.path / "ray"

    @property
    def cells_folder(self) -> Path:
        """Exists once a first trial has been handed out."""
        return self.path / "cells"

    def cell(self, name: str) -> CellDir:
        return CellDir(self.cells_folder / name)

    def cells(self) -> Iterator[CellDir]:
        """The cells that have a folder, by name."""
        for folder in sorted(self.cells_folder.glob("*")):
            if folder.is_dir():
                yield CellDir(folder)

    def read_incarnation(self) -> int:
        """The number of the newest driver; 0 before the first."""
        try:
            return max((int(p.name) for p in self.drivers.iterdir() if p.name.isdigit()), default=0)
        except FileNotFoundError:
            return 0

    def check_writable(self, incarnation: int, size_bytes: int, say: Callable[[str], None] = log.warning) -> None:
        """Wait for the storage and for room, then raise Fenced where a newer driver owns the run."""
        wait_for_storage(self.experiment_file, ROOM_BYTES + size_bytes, say)
        newest = self.read_incarnation()
        if newest != incarnation:
            raise Fenced(f"driver {newest} owns {self.path} now, this process belongs to {incarnation}")

    def raise_incarnation(self, owner: dict[str, Any] | None = None) -> int:
        """Make the caller the newest driver; workers of older ones stop before their next write.

        The file is created exclusively: of two drivers that start together each gets its own number.
        """
        self.drivers.mkdir(parents=True, exist_ok=True)
        while True:
            number = self.read_incarnation() + 1
            try:
                with (self.drivers / f"{number:04d}").open("x") as file:
                    json.dump(owner or {}, file)
            except FileExistsError:
                continue
            sync_folder(self.drivers)
            return number
