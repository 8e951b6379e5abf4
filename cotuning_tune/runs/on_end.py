"""The experiment's own command at a driver's end: a mail, a message, the next job."""

import os
import signal
import subprocess
from collections.abc import Callable

from cotuning_tune.runs.events import Checked, Ended, Event
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream

LIMIT_S = 30.0


class OnEnd:
    """Runs the command once the run has ``Ended``, unless a newer driver owns it. The last of the observers.

    The experiment may be another's: the command runs only where the user lets it, ``allowed``.
    """

    def __init__(self, command: str, *, allowed: bool) -> None:
        self.command, self.allowed = command, allowed

    def __call__(self, event: Event, now: Stream) -> None:
        if not self.command:
            return
        if isinstance(event, Checked):
            said = "on_end, run when this ends" if self.allowed else "on_end is not run without --on-end"
            now.notice(f"{said}: {self.command}")
        if isinstance(event, Ended) and self.allowed and now.run.read_incarnation() == now.driver:
            run_on_end(self.command, now.run, event.state, now.notice)


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
    process = subprocess.Popen(  # nosec B602 # the user's own line of shell, and only where he allows it (--on-end)
        command, shell=True, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        return process.wait(LIMIT_S)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
