"""Where a run's studies are: a journal in its folder by default, or any storage that Optuna knows."""

import json
import os
import shutil
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from cotuning_tune.base.errors import Unfinished, UserError, first_line
from cotuning_tune.base.files import PAUSE_S, ROOM_BYTES, TRIES, is_local, wait_for_storage, write_bytes
from cotuning_tune.base.secrets import Secret
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Values
from cotuning_tune.search.door import patiently, reason_of

if TYPE_CHECKING:
    from sqlalchemy import Engine


def set_storage(run: RunDir, url: str) -> None:
    """Keep the URL of the run's studies (mode 0600: it may hold a password).

    A database file is named by its absolute path. Raises UserError for another one once a trial has been handed out.
    """
    url, kept = absolute(url), kept_url(run)
    if url == kept:
        return
    if run.studies_folder.exists():
        raise UserError(
            f"the studies of {run.path} are elsewhere already: omit --optuna-storage, move them"
            f" (cotuning-tune migrate {run.path} --optuna-storage URL), or start a new run (--name)"
        )
    keep_url(run, url)


def kept_url(run: RunDir) -> str:
    """The URL of the run's studies; '' where they are in its journal."""
    return run.optuna_storage_file.read_text().strip() if run.optuna_storage_file.exists() else ""


def keep_url(run: RunDir, url: str) -> None:
    """Write it down, for the owner alone; '' for the journal."""
    if not url:
        run.optuna_storage_file.unlink(missing_ok=True)
        return
    old = os.umask(0o077)
    try:
        write_bytes(run.optuna_storage_file, url.encode())
    finally:
        os.umask(old)


def absolute(url: str) -> str:
    """The same with the absolute path of a database file: it is found again from every folder."""
    kind, colon, path = url.partition(":///")
    if not colon or not kind.startswith("sqlite") or path.startswith(("/", "file:")) or path in ("", ":memory:"):
        return url
    return f"{kind}:///{Path(path).resolve()}"


def open_storage(run: RunDir) -> BaseStorage:
    """The storage of the run's studies, made where it is not there. Needs the run's lock.

    Raises UserError where it cannot be reached before the first trial, Unfinished where it stays away later.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url := kept_url(run):
        return patiently(lambda: RDBStorage(url)) if run.studies_folder.exists() else open_url(url)
    if not is_local(run.path):
        raise UserError(f"the studies of {run.path} need a database (--optuna-storage URL): a journal needs a folder")
    return JournalStorage(WaitingJournal(run))


def read_storage(run: RunDir, journal: "ReadJournal | None" = None) -> BaseStorage | None:
    """The same for whoever only looks: nothing is made or written. None where there is none yet.

    ``journal``: the run's, for whoever looks again. Raises UserError where it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url := kept_url(run):
        return look_at(url)
    if not is_local(run.path) or not run.journal.is_file():
        return None
    return JournalStorage(journal or ReadJournal(run.journal))


def studies_in(storage: BaseStorage, prefix: str) -> dict[str, Values]:
    """The studies of the run whose studies are named ``PREFIX/...``, in order: names, and their own attributes."""
    found = {study.study_name: study.user_attrs for study in storage.get_all_studies()}
    return {name: found[name] for name in sorted(found) if name.startswith(f"{prefix}/")}


def close(storage: BaseStorage | None) -> None:
    """Give the connections of a database back; of a journal there are none."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def look_at(url: str) -> BaseStorage | None:
    """A database that is there, without making its file or its tables. Raises UserError where it cannot be read."""
    from sqlalchemy import create_engine, make_url

    try:
        place = make_url(url)
        file = place.database if place.get_backend_name() == "sqlite" else None
        if file and not file.startswith("file:") and not Path(file).exists():
            return None
        engine = create_engine(place)
        try:
            made = _is_made(engine)
        finally:
            engine.dispose()
        return RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True) if made else None
    except Exception as problem:
        raise UserError(f"the storage of the studies cannot be read: {Secret(url).cover(reason_of(problem))}") from None


def _is_made(engine: "Engine") -> bool:
    """Whether Optuna has made all of its tables: what is missing there it would write, for a reader too."""
    from sqlalchemy import inspect, text

    if not inspect(engine).has_table("alembic_version"):
        return False
    with engine.connect() as connection:
        return connection.execute(text("SELECT 1 FROM alembic_version")).first() is not None


def open_url(url: str) -> BaseStorage:
    """A database of studies, with its tables. Raises UserError where it cannot be opened."""
    try:
        return RDBStorage(url)
    except Exception as problem:
        reason = Secret(url).cover(reason_of(problem))
        raise UserError(f"the storage of the studies cannot be opened: {reason}") from None


class ReadJournal(BaseJournalBackend):
    """A journal that is only read: not made, not locked, and what is half written is not there yet.

    It remembers how far it has been read: what comes next costs no more than what is new. ``lines``: read so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, 0
        self._number, self._offset, self._last = 0, 0, b""

    def append_logs(self, logs: list[dict[str, object]]) -> None:
        """Never called by whoever reads. Raises RuntimeError."""
        raise RuntimeError("this journal is only read")

    def read_logs(self, log_number_from: int) -> Generator[dict[str, object], None, None]:
        """All entries from a number on, up to the first that is damaged; none where the journal has gone."""
        if log_number_from != self._number:
            self._number, self._offset, self._last = 0, 0, b""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if (entry := entry_of(line)) is None:
                    return
                self.lines += 1
                self._number, self._offset, self._last = self._number + 1, self._offset + len(line), line
                if self._number > log_number_from:
                    yield entry

    @property
    def goes_on(self) -> bool:
        """Whether the file still holds what was read of it: a journal may have been mended, restored or replaced."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                return file.read(len(self._last)) == self._last
        except FileNotFoundError:
            return not self._number


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


def mend_journal(path: Path) -> list[str]:
    """Make the journal a sequence of whole lines again and remove a dead driver's lock; a line for what was done.

    Only for the holder of the run's lock: nobody else writes the journal. What a kill has left of the last line is cut
    off. Of a journal that is damaged before its end a copy is kept: what stood behind is written again from the
    trials' folders. Optuna reads over a half line at the end, but would glue the next entry to it.
    """
    notices: list[str] = []
    lock = path.with_name(path.name + ".lock")
    if lock.is_symlink() or lock.exists():
        lock.unlink()
        notices.append(f"{lock.name} of a dead driver removed")
    if not path.exists():
        return notices
    kept, half = _whole_lines(path)
    lost = path.stat().st_size - kept
    if lost and not half:
        copy = _kept_copy(path)
        notices.append(f"{path.name} is damaged after {kept} bytes: kept as {copy.name}")
    elif lost:
        notices.append(f"{path.name}: a half-written last line ({lost} bytes) cut off")
    if lost:
        os.truncate(path, kept)
    return notices


def _kept_copy(path: Path) -> Path:
    number = 1
    while (copy := path.with_name(f"{path.name}.damaged{number}")).exists():
        number += 1
    shutil.copy2(path, copy)
    return copy


def _whole_lines(path: Path) -> tuple[int, bool]:
    """Up to which byte the journal consists of whole JSON lines, and whether only the last line is not one."""
    kept = 0
    with path.open("rb") as file:
        for line in file:
            if entry_of(line) is None:
                return kept, not file.read(1)
            kept += len(line)
    return kept, True


def entry_of(line: bytes) -> dict[str, object] | None:
    """The entry in a line of a journal; None of a half-written or damaged one."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
