"""Which data sets there are, and how one is opened."""

from types import ModuleType
from typing import Any, cast

from cotuning_tune.base import discovery
from cotuning_tune.base.errors import unknown
from cotuning_tune.data import images, text
from cotuning_tune.data._data_set import DataSet, TaskConfig
from cotuning_tune.data._examples import Words
from cotuning_tune.data._task import Task
from cotuning_tune.hyper import build

PACKAGES = (images, text)


def names() -> list[str]:
    """The data sets there are: the files of ``data/images`` and ``data/text``."""
    return sorted(name for package in PACKAGES for name in discovery.module_names(package))


def _package(name: str) -> ModuleType:
    """The folder that has a data set's file. Raises UserError that names all where there is none of that name."""
    if name not in (known := names()):
        raise unknown("data set", name, known)
    return next(package for package in PACKAGES if name in discovery.module_names(package))


def about(name: str) -> str:
    """What a data set is, in a line: the first one of its file."""
    return discovery.first_line(_package(name), name)


def data_set(kind: str) -> type[DataSet]:
    """The class of a data set; UserError that names all where there is none of that name."""
    return cast(type[DataSet], discovery.find_class(_package(kind), kind, DataSet, "data set"))


def open_task(
    name: str,
    rate: float,
    config: TaskConfig,
    options: dict[str, Any] | None = None,
    kind: str | None = None,
    words: Words | None = None,
) -> Task:
    """The task ``name`` (of data set ``kind``, by default the same word) with the data set's options.

    ``words``: of a data set of texts, how the backbone takes them.
    """
    found = data_set(kind or name)
    data = found(build(found.Config, options or {}, f"data.{name}"), config.resize)
    data.prepare(config, words)
    return Task(name, data, rate, config)
