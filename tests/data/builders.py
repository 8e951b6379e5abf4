"""Several processes that open one folder of images at the same moment, some of them killed. Started by test_decoding.

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
import time
from pathlib import Path

import numpy as np

from cotuning_tune.base.cache import cache_root
from cotuning_tune.data import DecodedImages, ImageFiles, _decoding

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


def fork(log: Path, known: bytes) -> int:
    """Start a process that opens the images; its id."""
    if process := os.fork():
        return process
    code = 1
    try:
        open_images(log, known)
        code = 0
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def one_round(number: int, delay_s: float, known: bytes) -> dict[str, object]:
    """One is killed after the delay, the others start at that moment; what they did and what is left."""
    shutil.rmtree(cache_root(), ignore_errors=True)
    log = cache_root().parent / f"log-{number}"
    if delay_s:
        victim = fork(log, known)
        time.sleep(delay_s)
        os.kill(victim, signal.SIGKILL)
        ended(victim)
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
    """An undisturbed round, then rounds with a kill at a moment drawn from the time that a lone process takes."""
    found = files()
    known = np.stack([found.decode(position) for position in range(len(found.names))]).tobytes()
    start = time.monotonic()
    ended(fork(cache_root().parent / "log", known))
    took, draw = time.monotonic() - start, random.Random(SEED)
    delays = [0.0, *(draw.uniform(0.1, 1.0) * took for _ in range(ROUNDS))]
    lines = [json.dumps(one_round(number, delay, known)) for number, delay in enumerate(delays)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
