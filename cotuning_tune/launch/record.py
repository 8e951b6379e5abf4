"""What has been launched: a folder for each launch, readable by its owner alone."""

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.base.files import read_json, sync_folder
from cotuning_tune.base.secrets import Secret

RECORD = "launch.json"


@dataclass(frozen=True)
class Launch:
    """A launch: which backend, of what, with which profile, and what its backend needs to find it again.

    ``id``: made once, kept by every ``attempt`` (counted from 1); ``starting``: written down before the attempt is
    started, so that there are no ``facts`` of it yet; ``home``: the launch's folder, '' for the one of its name below
    ``root()``.
    """

    name: str
    backend: str
    experiment: str
    storage: str
    profile: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    attempt: int = 1
    on_end: bool = False
    stopped: bool = False  # by the user, in this attempt
    id: str = ""
    starting: bool = False
    home: str = ""
    concurrent: int | None = None

    @property
    def folder(self) -> Path:
        return Path(self.home) if self.home else root() / self.name

    @property
    def attempt_name(self) -> str:
        """The name of the attempt, by which its backend finds what it has started."""
        return attempt_name(self.id, self.attempt)

    @property
    def run(self) -> str:
        """The address of the run's folder."""
        return f"{self.storage.rstrip('/')}/{self.name}"

    @property
    def optuna_storage(self) -> Secret:
        """The URL of the studies, '' for the journal; in a file of its own, for it may hold a password."""
        path = self.folder / "optuna_storage.url"
        return Secret(path.read_text().strip() if path.exists() else "")

    def save(self) -> None:
        """Write it down, for its owner alone: a profile's ``env`` may hold keys."""
        content = {key: value for key, value in asdict(self).items() if key != "home"}
        write_private(self.folder / RECORD, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def forget(self) -> None:
        """Remove the record; the folder stays."""
        (self.folder / RECORD).unlink(missing_ok=True)
        sync_folder(self.folder)


def attempt_name(launch: str, number: int) -> str:
    """The name that a backend is given for an attempt: the launch's id and the attempt's number.

    >>> attempt_name("3f9a01bc", 2)
    'ct-3f9a01bc-2'
    """
    return f"ct-{launch}-{number}"


def new_id() -> str:
    """An id of a new launch."""
    return secrets.token_hex(5)


def root() -> Path:
    """The folder of all launches: ``COTUNING_TUNE_LAUNCHES``, or ``~/.cotuning_tune/launches``."""
    return Path(os.environ.get("COTUNING_TUNE_LAUNCHES") or "~/.cotuning_tune/launches").expanduser().absolute()


def private_folder(path: Path) -> Path:
    """The folder, made where it is not there, with mode 0700. Raises UserError where it belongs to somebody else."""
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(path.parent)
    if path.stat().st_uid != os.getuid():
        raise UserError(f"{path} belongs to another user: set COTUNING_TUNE_LAUNCHES to a folder of your own")
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read (0600) from the moment it exists; waits until the disk has it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
    return path


def read_launch(folder: Path) -> Launch | None:
    """The launch whose folder that is, None where there is no record. Raises UserError for a damaged one."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return Launch(**read_json(path), home=str(folder))
    except TypeError as problem:
        raise UserError(f"{path} is of another version: {problem}") from None


def all_launches(below: Path | None = None) -> list[Launch]:
    """Every launch there is a record of, in the folders ``below`` that one or ``root()``, the newest first."""
    every = [read_launch(path.parent) for path in (below or root()).glob(f"*/{RECORD}")]
    return sorted((one for one in every if one), key=lambda launch: launch.started, reverse=True)


def find_launch(name: str | None, below: Path | None = None) -> Launch:
    """The launch of that name or id, the newest one without a name. Raises UserError."""
    every = all_launches(below)
    if not every:
        raise UserError(f"nothing has been launched yet (records lie in {below or root()})")
    if name is None:
        return every[0]
    for launch in every:
        if name in (launch.name, launch.id):
            return launch
    raise unknown("launch", name, [launch.name for launch in every])


def now() -> float:
    """Seconds since 1970."""
    return time.time()
