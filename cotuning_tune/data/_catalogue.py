"""Which data sets there are, and how one is opened."""

from typing import Any, cast

from cotuning_tune.base import discovery
from cotuning_tune.data import images
from cotuning_tune.data._task import DataSet, Task, TaskConfig
from cotuning_tune.hyper import build


def names() -> list[str]:
    """The data sets there are: the files of ``data/images``."""
    return discovery.module_names(images)


def about(name: str) -> str:
    """What a data set is, in a line: the first one of its file."""
    return discovery.first_line(images, name)


def data_set(kind: str) -> type[DataSet]:
    """The class of a data set; UserError that names all where there is none of that name."""
    return cast(type[DataSet], discovery.find_class(images, kind, DataSet, "data set"))


def open_task(
    name: str, rate: float, config: TaskConfig, options: dict[str, Any] | None = None, kind: str | None = None
) -> Task:
    """The task ``name`` (of data set ``kind``, by default the same word) with the data set's options."""
    found = data_set(kind or name)
    data = found(build(found.Config, options or {}, f"data.{name}"), config.resize)
    data.decode, data.decoding = config.decode, config.decoding
    return Task(name, data, rate, config)
