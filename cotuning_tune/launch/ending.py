"""Ends the drivers of this host cleanly, and waits until they have ended.

``python -m cotuning_tune.launch.ending SECONDS``, for a scheduler that would take the host away without a word to
them (the preStop hook of a pod). Exit code 0, also where none runs: nothing must hold up the end.
"""

import os
import signal
import sys
import time
from pathlib import Path

ENTRY = b"cotuning_tune.cli.entry"
POLL_S = 0.2


def drivers(proc: Path = Path("/proc")) -> list[int]:
    """The processes of this host that run the entry point."""
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"-m" in words and words[words.index(b"-m") + 1 :][:1] == [ENTRY]:
            found.append(int(folder.name))
    return found


def end_drivers(seconds: float) -> None:
    """Send SIGTERM to each once, and wait until all have ended, for so long."""
    deadline, told = time.monotonic() + seconds, set[int]()
    while (running := drivers()) and time.monotonic() < deadline:
        for pid in set(running) - told:
            told.add(pid)
            try:
                os.kill(pid, signal.SIGTERM)
            except OSError:  # gone, or another user's
                continue
        time.sleep(POLL_S)


if __name__ == "__main__":
    end_drivers(float(sys.argv[1]))
