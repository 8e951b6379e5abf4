"""Where a run's studies are: a journal in its folder by default, or any storage that Optuna knows."""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from cotuning_tune.base.errors import Unfinished, UserError, first_line
from cotuning_tune.base.files import is_local, wait_for_storage, write_bytes
from cotuning_tune.base.secrets import Secret
from cotuning_tune.run.folder import ROOM_BYTES, RunDir

TAIL_BYTES = 1 << 16
TRIES = 5  # of a write to a storage that is there
PAUSE_S = 0.5


def set_storage(run: RunDir, url: str) -> None:
    """Keep the URL of the run's studies (mode 0600: it may hold a password). UserError for another one."""
    if run.optuna_storage_file.exists() and run.optuna_storage_file.read_text().strip() != url:
        raise UserError(f"the studies of {run.path} are elsewhere already: omit --optuna-storage, or start a new run")
    old = os.umask(0o077)
    try:
        write_bytes(run.optuna_storage_file, url.encode())
    finally:
        os.umask(old)


def open_storage(run: RunDir) -> BaseStorage:
    """The storage of the run's studies. Raises UserError where it cannot be reached, or was there and is gone."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if run.optuna_storage_file.exists():
        return _open_url(run.optuna_storage_file.read_text().strip())
    if not is_local(run.path):
        raise UserError(f"the studies of {run.path} need a database (--optuna-storage URL): a journal needs a folder")
    if not run.journal.exists() and any(run.path.glob("studies/*/trials/*")):
        raise UserError(f"{run.journal} is gone, but there are trials: put it back, or start a new run (--name)")
    return JournalStorage(WaitingJournal(run))


class WaitingJournal(JournalFileBackend):
    """A run's journal whose storage may go away in the middle of a write, and come back.

    Only the holder of the run's lock appends: so what an interrupted write left can be put right and told.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__(str(run.journal))
        self.path, self.marker = run.journal, run.experiment_file

    def append_logs(self, logs: list[dict[str, object]]) -> None:
        """Append once, whenever the storage lets it. Raises Unfinished where it is there and still refuses."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        for attempt in range(TRIES):
            try:
                super().append_logs(logs)
                return
            except (OSError, RuntimeError) as problem:
                reason = self._wait(problem, attempt)
            mend_journal(self.path)
            if self.path.read_bytes().endswith(text):
                return
        raise Unfinished(f"the journal of the studies cannot be written: {reason}")

    def read_logs(self, log_number_from: int) -> Generator[dict[str, object], None, None]:
        """All entries from a number on. Raises Unfinished where the storage is there and still refuses."""
        for attempt in range(TRIES):
            try:
                yield from list(super().read_logs(log_number_from))
                return
            except OSError as problem:
                reason = self._wait(problem, attempt)
        raise Unfinished(f"the journal of the studies cannot be read: {reason}")

    def _wait(self, problem: Exception, attempt: int) -> str:
        wait_for_storage(self.marker, ROOM_BYTES)
        time.sleep(PAUSE_S * attempt)
        return first_line(problem)


def _open_url(url: str) -> BaseStorage:
    try:
        return RDBStorage(url)
    except Exception as problem:
        reason = Secret(url).cover(first_line(problem))
        raise UserError(f"the storage of the studies cannot be opened: {reason}") from None


def mend_journal(path: Path) -> list[str]:
    """Cut off a half-written last line and remove a dead driver's lock; a line for what was done.

    Only for the holder of the run's lock: nobody else writes the journal. Optuna reads over a half line
    at the end, but would glue the next entry to it and never read the journal again.
    """
    notices: list[str] = []
    lock = path.with_name(path.name + ".lock")
    if lock.is_symlink() or lock.exists():
        lock.unlink()
        notices.append(f"{lock.name} of a dead driver removed")
    if not path.exists():
        return notices
    kept = _whole_lines(path)
    lost = path.stat().st_size - kept
    if lost:
        os.truncate(path, kept)
        notices.append(f"{path.name}: a half-written last line ({lost} bytes) cut off")
    return notices


def _whole_lines(path: Path) -> int:
    """Up to which byte the journal consists of whole JSON lines."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - TAIL_BYTES)
        file.seek(start)
        tail = file.read()
    end = tail.rfind(b"\n") + 1
    while end > 0:
        begin = tail.rfind(b"\n", 0, end - 1) + 1
        try:
            json.loads(tail[begin:end])
        except ValueError:
            end = begin
            continue
        return start + end
    return start
