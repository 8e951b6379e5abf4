"""Which data sets there are, and how one is opened."""

from typing import Any, cast

from cotuning_tune.base.discovery import Shelf
from cotuning_tune.base.plugins import Plugin
from cotuning_tune.data import images, text
from cotuning_tune.data._data_set import DataSet, TaskConfig
from cotuning_tune.data._examples import Words
from cotuning_tune.data._task import Task
from cotuning_tune.hyper import build

SHELF = Shelf("data set", "datasets", (images.__name__, text.__name__))


def names() -> list[str]:
    """The data sets there are: the files of ``data/images`` and ``data/text``, and plug-ins."""
    return SHELF.names()


def about(name: str) -> str:
    """What a data set is, in a line: the first one of its file."""
    return SHELF.about(name)


def broken() -> dict[str, str]:
    """By name why a plug-in cannot be used."""
    return SHELF.broken(data_set)


def plugin(kind: str) -> Plugin | None:
    """The plug-in that is a data set; None of a built-in one."""
    return SHELF.plugin(kind)


def data_set(kind: str) -> type[DataSet]:
    """The class of a data set; UserError that names all where there is none of that name."""
    return cast(type[DataSet], SHELF.find(kind, DataSet))


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
