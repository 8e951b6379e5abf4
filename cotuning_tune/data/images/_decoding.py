"""Image files decoded once into one memory-mapped file, by all cores; a killed process's work is gone on with.

Two keys. The content is the SHA-256 of the bytes of every file, the stored side and the decoder's version:
``images/CONTENT.npy`` holds the pixels, so a copied or renamed folder finds them. Reading all bytes at every
start would be slow: ``images/LOOKUP.digests`` says which content the files with these names, sizes, times of
change (mtime) and of entry (ctime, which no program can set back) had, a digest each. While decoding, the bytes are
hashed again: a file that has changed in between is refused.

The work: ``.CONTENT.npy.building`` has its full length from the start, so a full disk shows at once. A block
of images is written to it and synced; only then does its digest go into ``.CONTENT.npy.done``. Whoever continues
takes a block as finished if its bytes have that digest. The whole file gets its name by a link, which
replaces nothing: a file that someone has mapped is never exchanged, and what has the name is whole.

The digests stay beside it (``CONTENT.npy.sums``). A process compares them once for each file as it is (size, time
of change, inode), all cores at once, before it maps the file; not at each access. That costs reading the file, which
training would read anyway: a second or two for each gigabyte. A file that does not fit is made again.

On one host one process builds and the others wait. Hosts that share the cache fill the same file: they write
the same bytes to the same places, and each passes over the blocks that another has finished.

Shapes: N images, B of a block, S the stored side. Values are uint8, channels first.
"""

import functools
import hashlib
import io
import itertools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cotuning_tune.base.cache import cache_folder, cache_root, content_key, identity, only_one
from cotuning_tune.base.errors import UserError, first_three
from cotuning_tune.base.files import sync_folder, write_bytes
from cotuning_tune.base.parallel import cores
from cotuning_tune.base.pixels import PLAIN, Decoding, decoded, decoder

log = logging.getLogger(__name__)
BLOCK = 64
DIGEST = 32
SAY_EVERY_S = 10.0
RESTED_S = 2.0
CHANGED = "changed while it was read"


@dataclass(frozen=True)
class ImageFiles:
    """Image files by name relative to ``root``, to be stored at ``size`` x ``size`` pixels, aspect lost."""

    root: Path
    names: Sequence[str]
    size: int
    how: Decoding = PLAIN

    @cached_property
    def stats(self) -> list[os.stat_result]:
        """Size and times of each file. Raises UserError for a missing one."""
        try:
            start = f"{self.root}{os.sep}"
            return [os.stat(start + name) for name in self.names]  # noqa: PTH116 - quicker than a Path for each
        except OSError as problem:
            raise UserError(f"{problem.filename} cannot be read: {problem.strerror}") from None

    @cached_property
    def lookup(self) -> str:
        """The quick key: no file is opened for it."""
        times = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in self.stats]
        return content_key("lookup 2", str(self.root.resolve()), list(self.names), times)

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of the bytes of each file, '' of an unreadable one; reads them all where the quick key is new."""
        if known := _known_digests(self.lookup):
            return known

        def of_block(start: int) -> list[str]:
            return [_digest_of(self.root / name) for name in self.names[start : start + BLOCK]]

        with ThreadPoolExecutor(cores()) as pool:
            found = list(itertools.chain.from_iterable(pool.map(of_block, range(0, len(self.names), BLOCK))))
        # Within a tick of the clock a second change would leave the times as they are.
        rested = max((s.st_ctime for s in self.stats), default=0.0) < time.time() - RESTED_S
        if rested and all(found):
            with _told_of_no_room(self):
                write_bytes(_known_file(self.lookup), _entry(self.lookup, found), durable=False)
        return found

    def content(self) -> str:
        """The key of the pixels."""
        return content_key("decoded 3", self.digests, self.size, decoder(self.how))

    @property
    def _checked(self) -> Path:
        return cache_folder("images") / f"{self.content()}.checked"

    @property
    def is_checked(self) -> bool:
        """Whether every file of this content was decoded before, though its pixels were not kept."""
        return identity(self._checked) is not None

    def keep_checked(self) -> None:
        """Note that every file could be decoded."""
        with _told_of_no_room(self):
            write_bytes(self._checked, b"", durable=False)

    def decode(self, position: int, digest: str = "") -> np.ndarray | str:
        """Pixels [3, S, S], or what is wrong: also a content that has not the given ``digest``."""
        try:
            data = (self.root / self.names[position]).read_bytes()
        except OSError as problem:
            return str(problem.strerror)
        if digest and hashlib.sha256(data).hexdigest() != digest:
            return CHANGED
        return decoded(data, self.size, self.how)


def _known_file(lookup: str) -> Path:
    return cache_folder("images") / f"{lookup}.digests"


def _entry(lookup: str, digests: Sequence[str]) -> bytes:
    """What the file of a quick key holds: a checksum, then a digest for each file."""
    whole = bytes.fromhex("".join(digests))
    return hashlib.sha256(lookup.encode() + whole).digest() + whole


def _known_digests(lookup: str) -> list[str]:
    """The digests that a quick key stands for; none where they are not known, or the file is damaged."""
    if not (cache_root() / "images").exists() or identity(_known_file(lookup)) is None:
        return []
    data = _known_file(lookup).read_bytes()
    found = [data[start : start + DIGEST].hex() for start in range(DIGEST, len(data), DIGEST)]
    if len(data) % DIGEST == 0 and data == _entry(lookup, found):
        return found
    log.warning("%s is damaged: it is made again", _known_file(lookup))
    return []


def _digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes; empty for one that cannot be read: decoding tells why."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def refuse_broken(files: ImageFiles, broken: Sequence[str]) -> None:
    """UserError that names the first of the broken files, where there are any."""
    if broken:
        raise UserError(
            f"{len(broken)} of {len(files.names)} images in {files.root} cannot be read:"
            f" {first_three(broken)}; remove or replace them"
        )


@contextmanager
def _told_of_no_room(files: ImageFiles) -> Iterator[None]:
    """A full or unusable cache folder becomes a UserError with the ways out."""
    try:
        yield
    except OSError as problem:
        megabytes = len(files.names) * 3 * files.size**2 / 1e6
        raise UserError(
            f"{len(files.names)} decoded images take {megabytes:.0f} MB in {cache_root()}: {problem.strerror};"
            " set COTUNING_TUNE_CACHE to a folder with room, or decode them each time (--no-cache)"
        ) from None


def decoded_file(files: ImageFiles) -> tuple[Path, str]:
    """The file of pixels [N, 3, S, S] (npy) and its content key; decoded now where it is not there.

    Raises UserError for broken files and where there is no room; neither leaves anything.
    """
    content = files.content()
    with _told_of_no_room(files):
        build = _Build(files, cache_folder("images") / f"{content}.npy")
        if not build.is_whole():
            with only_one(build.path):
                build.run()
        build.clear()
    return build.path, content


class _Build:
    """The making of one file of decoded images."""

    def __init__(self, files: ImageFiles, path: Path) -> None:
        self.files, self.path = files, path
        self.data = path.with_name(f".{path.name}.building")
        self.done = path.with_name(f".{path.name}.done")
        self.sums = path.with_name(f"{path.name}.sums")
        header = io.BytesIO()
        shape = (len(files.names), 3, files.size, files.size)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.header, self.image_bytes = header.getvalue(), 3 * files.size**2
        self.length = len(self.header) + len(files.names) * self.image_bytes

    def clear(self) -> None:
        """Delete what is only of use while the file is made."""
        self.data.unlink(missing_ok=True)
        self.done.unlink(missing_ok=True)

    @property
    def blocks(self) -> int:
        """How many there are; the last one may be smaller."""
        return -(-len(self.files.names) // BLOCK)

    def is_whole(self) -> bool:
        """Whether the file is there and its blocks have the digests beside it."""
        found = identity(self.path)
        if not (found and found[0] == self.length and identity(self.sums)):
            return False
        sums = self.sums.read_bytes()
        fits = len(sums) == self.blocks * DIGEST
        return fits and _has_digests(self.path, found, sums, self.header, BLOCK * self.image_bytes)

    def run(self) -> None:
        """Decode what is not decoded yet, and give the whole its name; a damaged file is deleted before."""
        if self.is_whole():
            return
        if self.path.exists() or self.path.is_symlink():
            log.warning("%s is damaged, or its checksums are missing: it is made again", self.path)
            self.path.unlink()
        try:
            with _opened(self.data) as data, _opened(self.done) as done:
                self._fill(data, done)
                if not self.path.exists():  # else another host was first, and wrote the same
                    write_bytes(self.sums, os.pread(done, self.blocks * DIGEST, 0))
            self._publish()
        except (OSError, UserError):
            self.clear()
            if not self.path.exists():  # else another host was first, and cleared
                raise

    def _fill(self, data: int, done: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(data, 0, self.length)
        _write_at(data, self.header, 0)
        missing = [block for block in range(self.blocks) if not self._is_done(data, done, block)]
        before = self.blocks - len(missing)
        count, megabytes = len(self.files.names), self.length / 1e6
        already = f", {before * BLOCK} of them already there" if before else ""
        log.warning("decoding %d images once into %s (%.0f MB)%s", count, self.path, megabytes, already)
        broken: list[str] = []
        said = time.monotonic()
        with ThreadPoolExecutor(cores()) as pool:
            for number, found in enumerate(pool.map(lambda block: self._make(data, done, block), missing), before + 1):
                broken += found
                if time.monotonic() - said > SAY_EVERY_S:
                    log.warning("decoded %d of %d images", min(number * BLOCK, count), count)
                    said = time.monotonic()
        refuse_broken(self.files, broken)

    def _place(self, block: int) -> tuple[range, int]:
        """The images of a block, and where its bytes begin."""
        positions = range(block * BLOCK, min((block + 1) * BLOCK, len(self.files.names)))
        return positions, len(self.header) + positions.start * self.image_bytes

    def _is_done(self, data: int, done: int, block: int) -> bool:
        digest = os.pread(done, DIGEST, block * DIGEST)
        if len(digest) < DIGEST or not any(digest):
            return False
        positions, start = self._place(block)
        return hashlib.sha256(os.pread(data, len(positions) * self.image_bytes, start)).digest() == digest

    def _make(self, data: int, done: int, block: int) -> list[str]:
        """Decode and keep a block; the broken files in it, with the reasons."""
        if self.path.exists() or self._is_done(data, done, block):  # another host's work
            return []
        positions, start = self._place(block)
        decoded = [self.files.decode(position, self.files.digests[position]) for position in positions]
        broken = [f"{self.files.names[p]} ({d})" for p, d in zip(positions, decoded, strict=True) if isinstance(d, str)]
        if not broken:
            pixels = np.stack([d for d in decoded if not isinstance(d, str)]).tobytes()
            _write_at(data, pixels, start)
            os.fsync(data)  # the digest must not reach the disk before what it vouches for
            _write_at(done, hashlib.sha256(pixels).digest(), block * DIGEST)
        return broken

    def _publish(self) -> None:
        """The name, unless another host has given it; where the file system has no links, by rename."""
        try:
            self.path.hardlink_to(self.data)
        except FileExistsError:
            return
        except OSError:
            if not self.path.exists():
                self.data.replace(self.path)
        sync_folder(self.path.parent)


@functools.lru_cache(maxsize=256)
def _has_digests(path: Path, _: tuple[int, int, int], sums: bytes, header: bytes, block_bytes: int) -> bool:
    """Whether a file, as it is now, begins with the header, and its blocks have these digests: read once a process."""

    def fits(number: int) -> bool:
        with path.open("rb") as file:
            file.seek(len(header) + number * block_bytes)
            return hashlib.sha256(file.read(block_bytes)).digest() == sums[number * DIGEST : (number + 1) * DIGEST]

    with path.open("rb") as file:
        if file.read(len(header)) != header:
            return False
    with ThreadPoolExecutor(cores()) as pool:
        return all(pool.map(fits, range(len(sums) // DIGEST)))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, data: bytes, start: int) -> None:
    """Write all of it: a nearly full disk takes a part first and says so at the next call."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, start)
        left, start = left[written:], start + written
