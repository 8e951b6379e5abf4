"""A driver that does nothing but hold its run: ``stand_in.py FOLDER SECONDS -m MODULE EXPERIMENT ... --name RUN``.

``FOLDER/starts`` gets a line for each that began to work (run, process, when it started), ``FOLDER/doubles`` one for
each that found another one at work.
"""

import fcntl
import os
import sys
import time
from pathlib import Path


def main(folder: Path, seconds: float, run: str) -> int:
    """Hold the run for so long; the exit code."""
    with (folder / f"{run}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _write(folder / "doubles", run)
            return 75
        since = Path(f"/proc/{os.getpid()}/stat").read_text().rsplit(")", 1)[1].split()[19]
        _write(folder / "starts", f"{run} {os.getpid()} {since}")
        time.sleep(seconds)
    return 85


def _write(path: Path, line: str) -> None:
    """Add a line, whole, whoever else writes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[sys.argv.index("--name") + 1]))
