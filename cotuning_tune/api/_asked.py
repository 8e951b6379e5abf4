"""What is searched: an experiment file, or the same in keyword arguments."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import tomlkit

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.secrets import Secret
from cotuning_tune.base.toml_text import inline
from cotuning_tune.experiment import Experiment as Checked
from cotuning_tune.experiment import parse, read_experiment

if TYPE_CHECKING:
    from cotuning_tune.api._plan import Plan

Listed = Sequence[str] | Mapping[str, Mapping[str, Any]]
"""Names, or names with a table of options each."""
TABLES_OF_NAMES = ("methods", "backbones")
NAME = "search"
log = logging.getLogger(__name__)


class Experiment:
    """A checked experiment. Keyword arguments are the keys of the experiment file (docs: every key).

    ``methods`` and ``backbones`` are lists, or mappings to a table of each; ``data``, ``task``, ``train`` and
    ``resources`` are the tables of these names; all others are keys of ``[experiment]``. A list is a choice, a mapping
    with ``low`` and ``high`` (and ``log``) a range; relative paths start from the working folder.
    Raises UserError for whatever cannot be run.

    >>> Experiment(
    ...     name="birds",
    ...     tasks=["birds"],
    ...     data={"birds": {"format": "image_folder", "root": "photos/birds"}},
    ...     methods={"fine_tune": {}, "co_tuning": {"weight": {"low": 0.1, "high": 10, "log": True}}},
    ...     backbone="efficientnet_lite0",
    ...     trials=16,
    ...     train={"epochs": 10, "optim": {"lr": [1e-3, 1e-2]}},
    ... )
    """

    def __init__(
        self,
        *,
        tasks: Sequence[str],
        methods: Listed,
        backbones: Listed = (),
        task: Mapping[str, Any] | None = None,
        data: Mapping[str, Mapping[str, Any]] | None = None,
        train: Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        name: str = NAME,
        **experiment: Any,
    ) -> None:
        asked: dict[str, Any] = {"experiment": {"tasks": list(tasks), **experiment}}
        for key, listed in (("methods", methods), ("backbones", backbones)):
            if listed:
                asked["experiment"][key] = list(listed)
            if isinstance(listed, Mapping) and (tables := {one: table for one, table in listed.items() if table}):
                asked[key] = tables
        for key, table in (("task", task), ("data", data), ("train", train), ("resources", resources)):
            if table:
                asked[key] = table
        self._checked = parse(_text(asked), name, Path.cwd())

    @classmethod
    def from_file(cls, path: str | Path, name: str = "") -> "Experiment":
        """The experiment of a file, or a shipped one by its name. ``name``: of the run, by default the file's.

        Raises UserError.
        """
        return cls.of(read_experiment(path, name))

    @classmethod
    def from_toml(cls, text: str, name: str = NAME, base: str | Path = ".") -> "Experiment":
        """The experiment of a file's text; its relative paths start from ``base``. Raises UserError."""
        return cls.of(parse(text, name, Path(base).absolute()))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Experiment":
        """A first experiment for a folder of photos and this machine, as ``cotuning-tune init`` writes it.

        ``to_toml`` shows each line with its reason. Raises UserError for a folder that is none of photos.
        """
        from cotuning_tune.pipeline.propose import name_for, propose

        where = Path(folder).expanduser().absolute()
        found = propose(where, Path(f"{name_for(where)}.toml"), log.info)
        return cls.from_toml(found.text, name_for(where))

    def check(self, storage: str | Path = "runs") -> list[str]:
        """All that could fail later, a line each, as ``cotuning-tune check``; empty where there is nothing."""
        from cotuning_tune.pipeline.check import asked as asked_to_check
        from cotuning_tune.pipeline.check import check

        what = asked_to_check(self._checked, str(storage), Secret(), on_end=False, probe=True, say=log.info)
        return [found.line for found in check(what) if found.state != "ok"]

    def plan(
        self,
        *,
        concurrent_trials: int | None = None,
        gpus: int | None = None,
        images_per_second: float | None = None,
        probe: bool = True,
    ) -> "Plan":
        """What it will cost, before anything runs, as ``cotuning-tune plan``.

        Some steps of each method are trained for that, unless ``images_per_second`` of plain fine-tuning is given, or
        ``probe=False``: counts and sizes only. ``concurrent_trials`` at a time, or ``gpus`` that they share; by default
        as many as fit on this machine. Raises UserError for impossible numbers, and where nobody knows how large a data
        set is.
        """
        from cotuning_tune.api._plan import Plan
        from cotuning_tune.plan import plan_of

        speed: dict[str, Any] = {"images_per_second": images_per_second, "probe": probe}
        return Plan(plan_of(self._checked, concurrency=concurrent_trials, gpus=gpus, say=log.info, **speed))

    @classmethod
    def of(cls, checked: Checked) -> "Experiment":
        """One that the rest of the package has read."""
        made = cls.__new__(cls)
        made._checked = checked
        return made

    @property
    def checked(self) -> Checked:
        """As the rest of the package knows it."""
        return self._checked

    @property
    def name(self) -> str:
        """Of its run's folder."""
        return self._checked.name

    @property
    def studies(self) -> list[str]:
        """The names of its studies: each task at each rate, with each method."""
        return [study.name for study in self._checked.studies]

    def to_toml(self, path: str | Path | None = None) -> str:
        """The text of its file, also written to ``path``. Raises UserError where that cannot be written."""
        if path is not None:
            try:
                Path(path).write_text(self._checked.text, encoding="utf-8")
            except OSError as problem:
                raise UserError(f"{path} cannot be written: {problem.strerror}") from None
        return self._checked.text

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, {len(self.studies)} studies of {self._checked.trials} trials)"


Asked = Union[Experiment, str, Path]  # noqa: UP007 - named in signatures
"""An experiment, or the path of its file."""


def asked(experiment: Asked) -> Experiment:
    """The experiment, read where a path was given. Raises UserError."""
    return experiment if isinstance(experiment, Experiment) else Experiment.from_file(experiment)


def _text(tables: Mapping[str, Any]) -> str:
    """The tables as TOML. Raises UserError for a value that TOML has no word for."""
    document = tomlkit.document()
    for key, table in tables.items():
        document[key] = _table(table, key)
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any], where: str) -> Any:
    made = tomlkit.table()
    for key, value in values.items():
        if value is None:
            raise UserError(f"{where}.{key} is None: leave it out")
        try:
            own = isinstance(value, Mapping) and not {"low", "options"} & value.keys()
            made[key] = _table(value, f"{where}.{key}") if own else inline(_plain(value))
        except (TypeError, ValueError):
            raise UserError(f"{where}.{key} = {value!r} must be a text, a number, a list or a mapping") from None
    return made


def _plain(value: Any) -> Any:
    """What TOML knows: paths as text, numbers of numpy as numbers."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
