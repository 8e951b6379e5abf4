"""Several processes that open one folder of images at one moment, some killed. Started by test_decoding_together.

python builders.py ROOT SIZE SEED ROUNDS: writes a JSON line for each round. It imports once,
then forks.
"""

import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from cotuning_tune.base.cache import cache_root
from cotuning_tune.data import DecodedImages, ImageFiles
from cotuning_tune.data.images import _decoding

ROOT, SIZE, SEED, ROUNDS = Path(sys.argv[1]), *map(int, sys.argv[2:])
TOGETHER = 3
_decoding.BLOCK = 4


def files() -> ImageFiles:
    """The images of the folder."""
    return ImageFiles(ROOT, sorted(path.name for path in ROOT.iterdir()), SIZE)


def open_images(log: Path, known: bytes) -> None:
    """A process's work: notes each time it decodes; what it gets must be the known bytes at once."""
    logging.basicConfig(filename=log, format="%(message)s", force=True)
    images = DecodedImages(files())
    assert np.asarray(images.pixels_N3SS).tobytes() == known, "half a file was used"


def die_at(write: int) -> None:
    """From now on this process is killed in the place of its ``write``-th write of decoded images or digests."""
    inner, lock, left = _decoding._write_at, threading.Lock(), iter(range(write - 1, -1, -1))

    def writing(descriptor: int, data: bytes, start: int) -> None:
        with lock:
            if not next(left, 1):
                os.kill(os.getpid(), signal.SIGKILL)
        inner(descriptor, data, start)

    _decoding._write_at = writing


def fork(log: Path, known: bytes, write: int = 0) -> int:
    """Start a process that opens the images, and dies at a write where one is given; its id."""
    if process := os.fork():
        return process
    code = 1
    try:
        if write:
            die_at(write)
        open_images(log, known)
        code = 0
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def one_round(number: int, write: int, known: bytes) -> dict[str, object]:
    """One is killed at a write (0: none is), the others start at that moment; what they did and what is left."""
    shutil.rmtree(cache_root(), ignore_errors=True)
    log = cache_root().parent / f"log-{number}"
    if write:
        assert ended(fork(log, known, write)) == -signal.SIGKILL
    half = [p.name for p in cache_root().glob("images/*.npy")]
    codes = [ended(process) for process in [fork(log, known) for _ in range(TOGETHER)]]
    lines = log.read_text().splitlines() if log.exists() else []
    return {
        "codes": codes,
        "builds": [line for line in lines if line.startswith("decoding")],
        "published_before": len(half),
        "left": sorted(path.suffix for path in cache_root().rglob("*") if path.is_file()),
        "same": all(path.read_bytes()[-len(known) :] == known for path in cache_root().rglob("*.npy")),
    }


def main() -> None:
    """An undisturbed round, then rounds with a kill at a write drawn from those of a lone process."""
    found = files()
    known = np.stack([found.decode(position) for position in range(len(found.names))]).tobytes()
    writes = 1 + 2 * -(-len(found.names) // _decoding.BLOCK)  # the header, each block, its digest
    kills = [0, *random.Random(SEED).sample(range(1, writes + 1), ROUNDS)]
    lines = [json.dumps(one_round(number, write, known)) for number, write in enumerate(kills)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
