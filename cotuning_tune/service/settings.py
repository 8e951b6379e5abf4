"""The service's settings, from a file of its own: where runs lie, which data they may read, on what they run."""

import dataclasses
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cotuning_tune.base.errors import UnknownKeyError, UserError, unknown
from cotuning_tune.base.files import is_local, place
from cotuning_tune.base.names import check_name
from cotuning_tune.launch.backends import backend
from cotuning_tune.launch.profile import make_profile
from cotuning_tune.service.problems import Problem

NAMES = ("local", "ssh", "slurm", "k8s", "submit", "cloud")


@dataclass(frozen=True)
class Place:
    """A backend that runs may be put on, with the profile that the admin gave it.

    ``units``: trials of one GPU (of one core where it ``counts`` those) at a time, over all runs; ``pending``: runs at
    most that its own queue holds.
    """

    name: str
    kind: str
    units: float
    counts: Literal["gpus", "cpus"] = "cpus"
    profile: Mapping[str, Any] = field(default_factory=dict)
    optuna_storage: str = ""


@dataclass(frozen=True)
class Settings:
    """``root``: the service's own folder; ``storage``: below which runs lie, a folder for each owner; ``data_roots``:
    below which an experiment may name data; ``hosts``: names that it may be asked under, besides this machine's own;
    ``boards``: the origin under which a proxy shows TensorBoards (the next port here)."""

    root: Path
    storage: str
    database: str
    data_roots: tuple[Path, ...] = ()
    places: tuple[Place, ...] = ()
    hosts: tuple[str, ...] = ()
    boards: str = ""

    def backend(self, name: str = "") -> Place:
        """The backend of that name, the first without one. Raises Problem."""
        for one in self.places:
            if name in ("", one.name):
                return one
        raise Problem(str(unknown("backend", name, [one.name for one in self.places])), key="backend")

    def storage_of(self, owner: str) -> str:
        """Where an owner's runs lie."""
        return f"{self.storage.rstrip('/')}/{owner}"

    def folder(self, owner: str, name: str) -> str:
        """The address of a run's folder."""
        return f"{self.storage_of(owner)}/{name}"

    def remove(self, folder: Path) -> None:
        """Remove a run's folder, which lies in the storage: never anything else. Raises UserError."""
        storage = Path(self.storage).resolve()
        real = folder.resolve()
        if not is_local(place(self.storage)) or folder.is_symlink() or storage not in real.parents:
            raise UserError(f"{folder} does not lie in {storage}: it is left as it is")
        shutil.rmtree(real, ignore_errors=True)


def default_root() -> Path:
    """The service's folder: ``COTUNING_TUNE_SERVICE``, or ``~/.cotuning_tune/service``."""
    return Path(os.environ.get("COTUNING_TUNE_SERVICE") or "~/.cotuning_tune/service").expanduser().absolute()


def read_settings(path: Path | None, root: Path | None = None) -> Settings:
    """The settings of a file (TOML: ``[service]``, ``[backends.NAME]``); without one this machine's own.

    Raises UserError for what is wrong in it.
    """
    if path is None:
        return _settings({}, root or default_root(), Path.cwd())
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UserError(f"{path}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UserError(f"{path}: {problem}") from None
    return _settings(found, root or default_root(), path.absolute().parent)


def _settings(found: dict[str, Any], root: Path, base: Path) -> Settings:
    _check(found, ("service", "backends"), "the settings")
    service, backends = _table(found, "service"), _table(found, "backends")
    _check(service, ("storage", "database", "data_roots", "hosts", "boards"), "service")
    roots, hosts = _texts(service, "data_roots", "folders"), _texts(service, "hosts", "names")
    storage = str(service.get("storage", root / "runs"))
    return Settings(
        root=root,
        storage=str((base / storage).absolute()) if is_local(place(storage)) else storage,
        database=str(service.get("database", f"sqlite:///{root / 'service.db'}")),
        data_roots=tuple((base / Path(one).expanduser()).resolve() for one in roots),
        places=tuple(_place(name, _table(backends, name)) for name in backends) or (_here(),),
        hosts=tuple(hosts),
        boards=str(service.get("boards", "")).rstrip("/"),
    )


def _texts(table: Mapping[str, Any], name: str, what: str) -> list[str]:
    found = table.get(name, [])
    if not (isinstance(found, list) and all(isinstance(one, str) for one in found)):
        raise UserError(f"service.{name}: a list of {what}", f"service.{name}")
    return found


def _table(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise UserError(f"[{name}] is a table", name)
    return table


def _check(table: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in names:
            raise UnknownKeyError(name, where, names)


def _place(name: str, table: dict[str, Any]) -> Place:
    check_name(name, "the backend's name", key=f"backends.{name}")
    _check(table, ("kind", "units", "counts", "profile", "optuna_storage"), f"backends.{name}")
    kind = str(table.get("kind", "local"))
    if kind not in NAMES:
        raise unknown("kind of backend", kind, NAMES, f"backends.{name}.kind")
    make_profile(backend(kind).Profile, _table(table, "profile"), kind)
    if kind == "local" and "units" not in table:
        return dataclasses.replace(_here(), name=name, profile=_table(table, "profile"))
    units, counts = table.get("units"), table.get("counts", "gpus")
    if isinstance(units, bool) or not isinstance(units, int | float) or not 0 < units < 1e6:
        raise UserError(f"backends.{name}.units: how many GPUs (or cores) its runs may take in all", "units")
    if counts not in ("gpus", "cpus"):
        raise UserError(f"backends.{name}.counts = '{counts}': gpus or cpus", "counts")
    return Place(name, kind, float(units), counts, _table(table, "profile"), str(table.get("optuna_storage", "")))


def _here() -> Place:
    """This machine: its GPUs, its cores where it has none."""
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if Path("/proc/driver/nvidia/gpus").is_dir() else 0
    return Place("local", "local", float(gpus or os.cpu_count() or 1), "gpus" if gpus else "cpus")
