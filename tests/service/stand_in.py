"""A driver for the service's tests: holds the run's lock, follows its share, writes an epoch after another, dies often.

``stand_in.py STEPS -m MODULE EXPERIMENT --storage S --name N``. Each epoch is a line of a trial's metrics; beside them
``starts`` gets a line for each driver that began to work, ``doubles`` one for each that found another at work.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from cotuning_tune.base.errors import Held
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import driver_lock

STEP_S = 0.05


def main(steps: int, run: RunDir) -> int:
    """Work until there are so many epochs, or this driver dies; the exit code."""
    chance = random.Random()
    try:
        with driver_lock(run):
            _add(run.path / "starts", str(os.getpid()))
            rows = run.study("s").trial(0).metrics
            rows.parent.mkdir(parents=True, exist_ok=True)
            run.experiment_file.write_text("")
            while (done := len(rows.read_text().splitlines()) if rows.exists() else 0) < steps:
                time.sleep(STEP_S)
                share = json.loads(run.share.read_text())["trials"]
                _summary(run, "running", done, share)
                if not share:
                    continue
                _add(rows, str(done))  # a driver of the storm dies after an epoch: five deaths without one are for good
                if chance.random() < 1 / 12:
                    return 85
                if chance.random() < 1 / 24:
                    os.kill(os.getpid(), signal.SIGKILL)
            _summary(run, "done", done, 0)
            return 0
    except Held:
        _add(run.path / "doubles", str(os.getpid()))
        return 75


def _summary(run: RunDir, state: str, done: int, share: int) -> None:
    text = json.dumps({"state": state, "done": done, "running": min(share, 1), "share": share})
    run.summary.with_suffix(".new").write_text(text)
    run.summary.with_suffix(".new").replace(run.summary)


def _add(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


if __name__ == "__main__":
    words = sys.argv
    found = RunDir(Path(words[words.index("--storage") + 1]) / words[words.index("--name") + 1])
    found.path.mkdir(parents=True, exist_ok=True)
    code = 70
    try:
        code = main(int(words[1]), found)
    finally:
        found.ended.write_text(json.dumps({"code": code, "line": ""}))
    sys.exit(code)
