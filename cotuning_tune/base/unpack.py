"""Archives of images, unpacked once into the cache: from then on they are image files as any others.

What is unpacked is known by the archives' paths, sizes and times of change. It is written beside its place and renamed
when it is whole and on the disk; one that has lost a file since is made again. Nothing is written outside of its
folder, no link is made, and no more is unpacked than the archives can honestly hold and the disk has room for.
"""

import json
import logging
import os
import platform
import re
import secrets
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from cotuning_tune.base.cache import cache_folder, cache_root, content_key, identity, only_one
from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import leaves, sync_folder
from cotuning_tune.base.tables import size

log = logging.getLogger(__name__)
RULES = 1  # another number where the same archives give other files
MOST_GROWTH, SPARE = 100, 1 << 30  # bitmaps of few colours are packed well; images seldom
KEPT_FREE = 64 << 20
CHUNK = 1 << 20
MANIFEST, FILES = "manifest.json", "files"
LINK = "a link in an archive"


@dataclass(frozen=True)
class Unpacked:
    """Where the files are, and what else was said of them, as JSON holds it."""

    root: Path
    record: Any


class Target:
    """A folder that files are unpacked into. Raises UserError for a name that leads out, for one that is there already,
    and where the files would take more room than there is or than ``archives`` can honestly hold."""

    def __init__(self, folder: Path, archives: Sequence[Path]) -> None:
        self.folder, self.sizes = folder, dict[str, int]()
        self.source = archives[0]
        packed = sum(path.stat().st_size for path in archives)
        self.most, self.total = MOST_GROWTH * packed + SPARE, 0
        self.room = shutil.disk_usage(folder).free - KEPT_FREE

    def add(self, name: str, data: bytes | IO[bytes], source: Path | None = None) -> None:
        """Write a file. ``source``: the archive that it comes from, for what is said of a mistake."""
        source = source or self.source
        if leaves(name) or not PurePosixPath(name).parts:
            raise UserError(f"{source}: {name!r} leads out of it: nothing of it is unpacked")
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                if isinstance(data, bytes):
                    self._write(file, data, source)
                else:
                    while chunk := data.read(CHUNK):
                        self._write(file, chunk, source)
                self.sizes[name] = file.tell()
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UserError(f"{source}: two files of it are called {name}") from None

    def _write(self, file: IO[bytes], data: bytes, source: Path) -> None:
        self.total += len(data)
        if self.total > self.most:
            raise UserError(f"{source} would unpack to more than {size(self.most)}: no archive of images grows so")
        if self.total > self.room:
            raise UserError(
                f"{source} takes more room than there is in {cache_root()} ({size(max(self.room, 0))}):"
                " set COTUNING_TUNE_CACHE to a folder with room"
            )
        file.write(data)


def unpacked(kind: str, where: Path, archives: Sequence[Path], options: Any, make: Callable[[Target], Any]) -> Unpacked:
    """What ``make`` writes of these archives into a target, and the record that it returns; made once.

    ``where``: the folder or file that the user knows them by. ``kind`` and ``options``: what else decides the files, as
    JSON holds it. Processes of a host that ask at the same time wait for the first. Raises what ``make`` raises, and
    UserError where an archive or the cache cannot be used.
    """
    known = [(str(path), identity(path.resolve())) for path in archives]
    if missing := [path for path, found in known if not found]:
        raise UserError(f"{missing[0]} cannot be read: it is not a file")
    key = content_key("unpacked", RULES, kind, [(path, *(found or ())[:2]) for path, found in known], options)
    first = re.sub(r"[^\w.-]", "_", where.name)[:40]
    try:
        place = cache_folder("unpacked") / f"{first}-{key[:32]}"
        return _known(place) or _made(place, where, archives, make)
    except OSError as problem:
        raise UserError(
            f"{where} cannot be unpacked into {cache_root()}: {problem.strerror or first_line(problem)}"
        ) from None


def _known(place: Path) -> Unpacked | None:
    """What was unpacked there before, where every file has its size still."""
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        root = place / FILES
        if all((root / name).stat().st_size == count for name, count in manifest["sizes"].items()):
            return Unpacked(root, manifest["record"])
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        log.warning("%s is damaged (%s)", place, first_line(problem))
    return None


def _made(place: Path, where: Path, archives: Sequence[Path], make: Callable[[Target], Any]) -> Unpacked:
    with only_one(place):
        if found := _known(place):
            return found
        if place.exists():
            log.warning("%s is not whole any more: it is unpacked again", place)
            shutil.rmtree(place)
        log.warning("unpacking %s once into %s", where, place)
        host = re.sub(r"[^\w-]", "_", platform.node())
        here = f".{place.name}.{host}."
        for left in place.parent.glob(f"{here}*"):  # of one that was killed: of this host nobody else is at work
            shutil.rmtree(left, ignore_errors=True)
        temporary = place.with_name(here + secrets.token_hex(4))
        try:
            (temporary / FILES).mkdir(parents=True, mode=0o700)
            target = Target(temporary / FILES, archives)
            manifest = {"record": make(target), "sizes": target.sizes}
            (temporary / MANIFEST).write_text(json.dumps(manifest))
            _publish(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Unpacked(place / FILES, json.loads(json.dumps(manifest["record"])))


def _publish(temporary: Path, place: Path) -> None:
    """Give a whole folder its name once the disk has its files; another host may have been first."""
    if hasattr(os, "sync"):
        os.sync()  # one for all: thousands of small files
    try:
        temporary.rename(place)
    except OSError:
        if not _known(place):
            raise
    sync_folder(place.parent)


def unpack_zip(archive: Path) -> Unpacked:
    """Every file of a zip archive, by the names in it; the record: names of the links in it, which are not made.

    Raises UserError for a damaged or encrypted archive, and for what ``Target`` refuses.
    """

    def make(target: Target) -> list[str]:
        links = []
        try:
            with zipfile.ZipFile(archive) as opened:
                for part in opened.infolist():
                    name = part.filename.replace("\\", "/")
                    if name.endswith("/"):
                        continue
                    if part.flag_bits & 1:
                        raise UserError(f"{archive}: {name} is encrypted: unpack it yourself")
                    if part.external_attr >> 28 == 0o12:  # S_IFLNK of a Unix mode
                        links.append(name)
                        continue
                    with opened.open(part) as data:
                        target.add(os.path.normpath(name), data, archive)
        except (UserError, OSError):
            raise
        except Exception as problem:  # BadZipFile, zlib.error, NotImplementedError: whatever its parts say they are
            raise UserError(f"{archive} cannot be unpacked: {first_line(problem)}") from None
        return links

    return unpacked("zip", archive, [archive], None, make)
