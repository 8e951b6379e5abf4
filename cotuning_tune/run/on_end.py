"""The experiment's own command at a driver's end: a mail, a message, the next job."""

import os
import signal
import subprocess
from collections.abc import Callable

from cotuning_tune.run.folder import RunDir

LIMIT_S = 30.0


def run_on_end(command: str, run: RunDir, state: str, say: Callable[[str], None]) -> None:
    """Run a shell command once, for 30 s at most, after saying so; what goes wrong with it is said, no more.

    It finds COTUNING_TUNE_RUN (address of the run), COTUNING_TUNE_STATE (``done``, ``unfinished``, ``failed``)
    and COTUNING_TUNE_SUMMARY (address of the summary) in its environment.
    """
    say(f"the run is {state}; on_end: {command}")
    told = {"RUN": str(run.path), "STATE": state, "SUMMARY": str(run.summary)}
    environment = {**os.environ, **{f"COTUNING_TUNE_{key}": value for key, value in told.items()}}
    try:
        code = _run(command, environment)
    except subprocess.TimeoutExpired:
        say(f"on_end has taken more than {LIMIT_S:.0f} s and was ended")
    except (OSError, ValueError) as problem:
        say(f"on_end could not be run: {problem}")
    else:
        if code:
            say(f"on_end has ended with code {code}")


def _run(command: str, environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
    try:
        return process.wait(LIMIT_S)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
