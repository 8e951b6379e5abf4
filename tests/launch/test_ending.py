"""The end of the drivers of a host, before a scheduler takes it away."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cotuning_tune.launch import ending

STANDS_IN = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(85)); print('up', flush=True); time.sleep(60)"
)


def test_a_driver_is_found_by_what_it_runs(tmp_path: Path) -> None:
    """The module's name after -m, and nothing that merely mentions it."""
    for pid, words in {
        "11": ["python", "-m", "cotuning_tune.cli.entry", "file.toml"],
        "12": ["vi", "cotuning_tune.cli.entry"],
        "13": ["python", "-m", "cotuning_tune.launch.ending", "cotuning_tune.cli.entry"],
        "14": ["python", "-m"],
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    (tmp_path / "15").mkdir()  # ended meanwhile
    assert ending.drivers(tmp_path) == [11]


def test_it_waits_until_the_driver_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM once, then until it has gone; one that does not end is not waited for longer than asked."""
    with subprocess.Popen([sys.executable, "-c", STANDS_IN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr(ending, "drivers", lambda: [process.pid] if process.poll() is None else [])
        ending.end_drivers(30)
        assert process.returncode == 85
    signals = []
    monkeypatch.setattr(ending, "drivers", lambda: [1234])
    monkeypatch.setattr(ending.os, "kill", lambda pid, number: signals.append((pid, number)))
    start = time.monotonic()
    ending.end_drivers(0.5)
    assert time.monotonic() - start >= 0.5
    assert signals == [(1234, signal.SIGTERM)]
