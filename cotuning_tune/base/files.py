"""How the files of a run are written and read: in a POSIX folder, or in an object store (``s3://``).

A reader sees the old or the new content, never a part: files are written by rename after fsync, objects
are put whole. Imports neither torch nor ray, so that reports start fast.
"""

import errno
import io
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from cotuning_tune.base.errors import UserError, first_line

log = logging.getLogger(__name__)
STORAGE_POLL_S = 5.0
ROOM_BYTES = 16 << 20
TRIES, PAUSE_S = 5, 0.5  # of a write that the storage has refused
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS)
T = TypeVar("T")
_markers: list[Path] = []  # of the folders that this process guards
# Waiting 15 s at most between two tries: an object store may be away for four hours before a write fails.
OBJECT_TRIES = 1000
S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,  # other processes write too
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"total_max_attempts": 2}},
}


def place(where: str | Path) -> Path:
    """An absolute path of this machine, or the object store's equal of one for ``s3://BUCKET/PREFIX``.

    Raises UserError for another scheme, and where the extra [s3] is not installed.
    """
    text = str(where)
    if "://" not in text:
        return Path(text).expanduser().resolve()
    if not text.startswith("s3://") or len(text) == len("s3://"):
        raise UserError(f"{text} cannot be written to: a folder or s3://BUCKET/PREFIX is possible")
    try:
        import s3fs.core
        from upath.registry import register_implementation

        from cotuning_tune.base.objects import ObjectPath
    except ImportError:
        raise UserError("s3:// needs two more packages: pip install 'cotuning_tune[s3]'") from None
    s3fs.core.set_custom_error_handler(_Outage())
    register_implementation("s3", ObjectPath, clobber=True)
    found = ObjectPath(text.rstrip("/"), protocol="s3", **S3_OPTIONS)
    found.fs.retries = OBJECT_TRIES
    return cast(Path, found)


def leaves(name: str) -> bool:
    """Whether a path out of a list leads out of the folder that it starts at: by ``..``, as absolute, or unnameable.

    Symbolic links inside the folder are its owner's and are followed.
    """
    # No Path is made: a list may have a million names.
    return "\0" in name or os.path.isabs(name) or os.path.normpath(name).split(os.sep, 1)[0] == ".."  # noqa: PTH117


def is_local(path: Path) -> bool:
    """Whether it is a path of this machine's file systems."""
    return isinstance(path, Path)


class _Outage:
    """Whether to try again: yes while the object store cannot be reached; says so once an outage."""

    def __init__(self) -> None:
        self.told = 0.0

    def __call__(self, problem: Exception) -> bool:
        from botocore.exceptions import ConnectionError as NoConnection
        from botocore.exceptions import HTTPClientError

        if not isinstance(problem, (NoConnection, HTTPClientError)):
            return False
        if time.monotonic() - self.told > 300:
            log.warning("paused: %s; continues by itself when that is mended", first_line(problem))
            self.told = time.monotonic()
        return True


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """What an object store raises becomes an OSError: the storage's fault, nobody else's."""
    try:
        yield
    except OSError:
        raise
    except Exception as problem:
        raise OSError(f"{path}: {first_line(problem)}") from problem


def names_in(folder: Path) -> list[str]:
    """The names of what lies in a folder; none where there is no such folder. Raises OSError."""
    try:
        with _os_errors(folder):
            return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole; makes its folder. Raises OSError.

    ``durable`` also waits until the disk has it (fsync of file and folder).
    """
    if not is_local(path):
        with _os_errors(path):
            path.write_bytes(data)
        return
    _insist(path, lambda: _write(path, data, durable))


def _write(path: Path, data: bytes, durable: bool) -> None:
    _make_folder(path.parent)
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


def create(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, whoever tries at the same time. Raises FileExistsError."""
    if not is_local(path):
        with _os_errors(path):
            remote = cast(Any, path)
            remote.fs.pipe_file(remote.path, data, mode="create")
        return
    make_folder(path.parent)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line durably. A half-written last line, left by a kill, is completed to a line of its own."""
    if is_local(path):
        make_folder(path.parent)
    before = path.read_bytes() if path.exists() else b""
    text = (b"\n" if before and not before.endswith(b"\n") else b"") + line.encode() + b"\n"
    if not is_local(path):
        write_bytes(path, before + text)
        return
    with path.open("ab") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def move(path: Path, to: Path) -> None:
    """Rename a file over another; an object is copied, then deleted."""
    if is_local(path):
        path.replace(to)
    else:
        with _os_errors(path):
            path.rename(to)


def _below(path: Path) -> list[tuple[tuple[str, ...], Path]]:
    """The objects below a folder of an object store, and the parts of their names from there on."""
    return [(item.parts[len(path.parts) :], item) for item in path.rglob("*") if item.is_file()]


def move_folder(path: Path, to: Path) -> None:
    """Rename a folder; of an object store, every object below it."""
    if is_local(path):
        path.rename(to)
        return
    for name, item in _below(path):
        write_bytes(to.joinpath(*name), item.read_bytes())
        item.unlink()


def remove_folder(path: Path) -> None:
    """Delete a folder with all that lies in it; one that is not there is fine."""
    if is_local(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    for _, item in _below(path):
        item.unlink(missing_ok=True)


def fetch_folder(path: Path, to: Path) -> None:
    """Make a local folder the equal of an object store's whose files only grow, as event files do.

    What is new is copied, what has grown gets its end in place (a reader reads on), what is gone is deleted.
    """
    found = {to.joinpath(*name): item for name, item in _below(path)}
    for target, item in found.items():
        have = target.stat().st_size if target.exists() else 0
        if have < item.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as file:
                file.write(item.read_bytes()[have:])
    for target in [p for p in to.rglob("*") if p.is_file() and p not in found]:
        target.unlink()


class _ObjectFile(io.BytesIO):
    """A file in memory that is put whole into the object store at each flush."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def flush(self) -> None:
        write_bytes(self.path, self.getvalue())

    def close(self) -> None:
        if not self.closed:
            self.flush()
        super().close()


def open_new(path: Path) -> BinaryIO:
    """A new file to write on and on; what has been flushed can be read by others."""
    if not is_local(path):
        return _ObjectFile(path)
    make_folder(path.parent)
    path.unlink(missing_ok=True)
    return path.open("wb")


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's entries: a rename is durable only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def guarded(marker: Path) -> Iterator[None]:
    """While inside, this process writes below the marker's folder only while ``marker`` is there and there is room.

    Else it waits: nothing is made where a vanished mount has been. What fails meanwhile is written again.
    """
    if not is_local(marker):  # an object store's own client waits
        yield
        return
    _markers.append(marker)
    try:
        yield
    finally:
        _markers.remove(marker)


def _marker_of(path: Path) -> Path | None:
    return next((marker for marker in _markers if path.is_relative_to(marker.parent)), None)


def _insist(path: Path, write: Callable[[], T]) -> T:
    """What ``write`` gives, which may be repeated: in a guarded folder tried again when the storage is usable again.

    Raises OSError where it still fails, and at once for what the storage has not caused.
    """
    if (marker := _marker_of(path)) is None:
        return write()
    for _ in range(TRIES):
        wait_for_storage(marker, ROOM_BYTES, log.info)
        try:
            return write()
        except OSError as problem:
            if problem.errno not in STORAGE_ERRORS and marker.exists():
                raise
            time.sleep(PAUSE_S)
    wait_for_storage(marker, ROOM_BYTES, log.info)
    return write()


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder of this machine with its parents; one in a guarded folder once that is there. Raises OSError."""
    _insist(folder, lambda: _make_folder(folder, mode))


def _make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder with its parents; of a guarded folder, only what lies in it."""
    marker = _marker_of(folder)
    if marker is None:
        folder.mkdir(mode, parents=True, exist_ok=True)
    elif folder != marker.parent:
        _make_folder(folder.parent)
        folder.mkdir(mode, exist_ok=True)


def wait_for_storage(marker: Path, needed_bytes: int, say: Callable[[str], None] = log.warning) -> None:
    """Wait until the storage is there (``marker`` exists) and has room; says so once, and when it continues.

    A full disk or a vanished mount pauses whoever writes: nothing is lost, nothing is made elsewhere.
    """
    waited = False
    while problem := _storage_problem(marker, needed_bytes):
        if not waited:
            say(f"paused: {problem}; continues by itself when that is mended")
        waited = True
        time.sleep(STORAGE_POLL_S)
    if waited:
        say("continuing: the storage is usable again")


def _storage_problem(marker: Path, needed_bytes: int) -> str:
    if not is_local(marker):
        with _os_errors(marker):
            return "" if marker.exists() else f"{marker.parent} has vanished ({marker.name} is not there)"
    try:
        marker.stat()
        free = shutil.disk_usage(marker.parent).free
    except OSError as problem:
        return f"{marker.parent} has vanished ({problem.strerror})"
    if free < needed_bytes:
        return f"the disk of {marker.parent} is full ({free >> 20} MiB free, {needed_bytes >> 20} needed)"
    return ""


def _json_bytes(text: str) -> bytes:
    """JSON as UTF-8; bytes of a file's name that are none stand there as JSON escapes them."""
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON by rename; NaN is refused, for no other reader of JSON knows it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, _json_bytes(text + "\n"), durable=durable)


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
    write_bytes(path, _json_bytes(text), durable=False)


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
