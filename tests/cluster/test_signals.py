"""What a termination does while Tune runs."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, time
from cotuning_tune.cluster.signals import ending_cleanly, terminations_passed_on
heard = []
with ending_cleanly():
    before = signal.getsignal(signal.SIGALRM)
    try:
        with terminations_passed_on(float(sys.argv[1])):
            signal.signal(signal.SIGUSR1, lambda number, frame: heard.append("USR1"))
            for _ in range(int(sys.argv[2])):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)
            heard.append("goes on")
            time.sleep(float(sys.argv[3]))
    except KeyboardInterrupt as end:
        heard.append(str(end))
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
print(*heard, sep=", ")
"""


@pytest.mark.parametrize(
    ("patience", "times", "lasts", "heard"),
    [
        (60, 1, 0, "USR1, goes on"),
        (0.5, 1, 30, "USR1, goes on, SIGTERM"),
        (60, 2, 30, "USR1, SIGTERM"),
        (60, 0, 0, "goes on"),
    ],
    ids=["ended in time", "not ended", "told twice", "not told"],
)
def test_a_termination_is_passed_on(patience: float, times: int, lasts: float, heard: str) -> None:
    """Tune hears it first; where that does not end its loop, or it comes again, the driver leaves by itself."""
    words = [sys.executable, "-c", SCRIPT, *map(str, (patience, times, lasts))]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=25)
    assert done.stdout == f"{heard}\n"
