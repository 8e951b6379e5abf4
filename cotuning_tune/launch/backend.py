"""What every backend of launching has in common."""

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.names import check_name
from cotuning_tune.base.secrets import Secret
from cotuning_tune.launch.record import Launch, attempt_name
from cotuning_tune.runs.share import check_concurrent

HELD = "held: another driver works on the run"
ENDS = {"0": "done", "75": HELD, "85": "unfinished"}  # by the entry point's exit code; any other one has failed
NOTHING_RUNS = "nothing is running"  # what ``stop`` says of a launch that had ended before


class Unsure(UserError):  # noqa: N818 - what happened
    """The backend did not answer when it was asked to start: something may run, ``find`` tells later."""


@dataclass(frozen=True)
class Request:
    """What shall be launched; ``profile`` is an object of the backend's ``Profile``, ``folder`` the launch's own.

    ``optuna_storage``: the URL of the studies; a plain text is taken too. ``id`` and ``attempt``: of the launch; a new
    one gets an id where it has none; ``concurrent``: trainings at a time at most.
    Raises UserError for a name that is none.
    """

    experiment: Path
    name: str
    storage: str
    optuna_storage: Secret
    profile: Any
    folder: Path
    on_end: bool = False
    id: str = ""
    attempt: int = 1
    concurrent: int | None = None

    @property
    def attempt_name(self) -> str:
        """What the backend shall call it."""
        return attempt_name(self.id or "new", self.attempt)

    def __post_init__(self) -> None:
        object.__setattr__(self, "optuna_storage", Secret(self.optuna_storage))
        check_name(self.name, "the run's name", "--name, or name in [experiment]")
        check_concurrent(self.concurrent)

    def entry(self, python: str, experiment: str, *more: str) -> list[str]:
        """The command that starts or resumes the run, the same each time."""
        command = [python, "-m", "cotuning_tune.cli.entry", experiment, "--storage", self.storage]
        bound = [] if self.concurrent is None else ["--concurrent", str(self.concurrent)]
        return [*command, "--name", self.name, *(["--on-end"] if self.on_end else []), *bound, *more]

    def entry_on_head(self, experiment: str, workers: int) -> list[str]:
        """The same on the head of a cluster made for the run, which waits for its workers."""
        return self.entry("python", experiment, "--address", "auto", "--nodes", str(workers + 1), "--require-token")


def dashed(run: str) -> str:
    """The run's name in small letters, figures and dashes, as clusters name things; may come out empty."""
    return re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")


@dataclass(frozen=True)
class Plan:
    """What a launch is made of: files for the launch's folder by name, and the commands that start it."""

    files: dict[str, str]
    commands: list[list[str]]

    def shown(self, folder: Path) -> str:
        """All of it as ``--dry-run`` prints it."""
        parts = [f"# {folder / name}\n{text.rstrip()}" for name, text in self.files.items()]
        lines = [shlex.join(command) for command in self.commands]
        return "\n\n".join([*parts, "# commands\n" + "\n".join(lines)])


class Backend(ABC):
    """A backend of launching. ``Profile``: a frozen dataclass of ``hyper`` fields, filled from a profile file.

    The URL of the studies goes by the environment (COTUNING_TUNE_OPTUNA_STORAGE), never as an argument: it may hold a
    password.
    """

    Profile: ClassVar[type]

    def check(self, request: Request) -> None:
        """Refuse what can be known before anything is started. Raises UserError."""

    @abstractmethod
    def plan(self, request: Request) -> Plan:
        """Render the files and name the commands; starts nothing, asks no other machine."""

    @abstractmethod
    def start(self, request: Request, plan: Plan) -> dict[str, Any]:
        """Start it under the attempt's name; the files stand in the launch's folder. What the other verbs need (JSON).

        Where that attempt has been started before, nothing is started. Raises UserError where nothing has been started,
        Unsure where that is not known.
        """

    @abstractmethod
    def find(self, launch: Launch) -> dict[str, Any] | None:
        """What ``start`` would have answered of this attempt, None where nothing of its name has been started.

        Asked where whoever started it did not live to hear the answer. Raises UserError where nobody can be asked.
        """

    def clear(self, launch: Launch) -> str:
        """Remove what a start that was cut off has left behind, less than a driver; says in a line what was done."""
        return NOTHING_RUNS

    def notes(self, launch: Launch) -> list[str]:
        """Lines for the user after a start: how to reach what has been started."""
        return []

    @abstractmethod
    def state(self, launch: Launch) -> str:
        """``queued``, ``running``, or how it ended: ``done``, ``unfinished``, ``held``, ``failed``, ``gone``.

        More may follow.
        """

    @abstractmethod
    def log(self, launch: Launch, follow: bool) -> Iterator[str]:
        """The driver's output in pieces; with ``follow`` until it has ended."""

    @abstractmethod
    def stop(self, launch: Launch) -> str:
        """End it cleanly, so that ``resume`` continues; says in a line what was done. Raises UserError."""
