"""What has been launched: a folder for each launch, readable by its owner alone."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.base.files import read_json
from cotuning_tune.base.secrets import Secret

RECORD = "launch.json"


@dataclass(frozen=True)
class Launch:
    """A launch: which backend, of what, with which profile, and what its backend needs to find it again."""

    name: str
    backend: str
    experiment: str
    storage: str
    profile: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    times: int = 1
    on_end: bool = False
    stopped: bool = False  # by the user, in this attempt
    concurrent: int | None = None

    @property
    def folder(self) -> Path:
        return root() / self.name

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
        write_private(self.folder / RECORD, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def root() -> Path:
    """The folder of all launches: ``COTUNING_TUNE_LAUNCHES``, or ``~/.cotuning_tune/launches``."""
    return Path(os.environ.get("COTUNING_TUNE_LAUNCHES") or "~/.cotuning_tune/launches").expanduser().absolute()


def private_folder(path: Path) -> Path:
    """The folder, made where it is not there, with mode 0700. Raises UserError where it belongs to somebody else."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_uid != os.getuid():
        raise UserError(f"{path} belongs to another user: set COTUNING_TUNE_LAUNCHES to a folder of your own")
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read (0600) from the moment it exists."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
    return path


def _read(path: Path) -> Launch:
    try:
        return Launch(**read_json(path))
    except TypeError as problem:
        raise UserError(f"{path} is of another version: {problem}") from None


def all_launches() -> list[Launch]:
    """Every launch there is a record of, the newest first."""
    found = [_read(path) for path in root().glob(f"*/{RECORD}")]
    return sorted(found, key=lambda launch: launch.started, reverse=True)


def find_launch(name: str | None) -> Launch:
    """The launch of that name, the newest one without a name. Raises UserError."""
    every = all_launches()
    if not every:
        raise UserError(f"nothing has been launched yet (records lie in {root()})")
    if name is None:
        return every[0]
    for launch in every:
        if launch.name == name:
            return launch
    raise unknown("launch", name, [launch.name for launch in every])


def now() -> float:
    """Seconds since 1970."""
    return time.time()
