"""TensorBoard event files: scalars that compare across trials, and HParams with one fixed schema.

One file a training, written by the driver: session start and hyper-parameters when it starts, plain
tags with step = epoch and the wall time of the epoch, the true status when it ends. A training that
goes on after a kill gets its file written afresh from its history, so no step stands twice.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from cotuning_tune.files import open_new
from cotuning_tune.hyper import Choice, Parameter, Range

METRICS = {
    "val/best_accuracy": "best validation accuracy (%)",
    "val/accuracy": "last validation accuracy (%)",
    "test/accuracy": "test accuracy (%)",
}
FILE_NAME = "events.out.tfevents.0.cotuning_tune"


def _write(file: BinaryIO, summary: Any = None, step: int = 0, wall: float | None = None, version: str = "") -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    event = Event(wall_time=time.time() if wall is None else wall, step=step)
    if version:
        event.file_version = version
    else:
        event.summary.CopyFrom(summary)
    RecordWriter(file).write(event.SerializeToString())


def _open(folder: Path) -> BinaryIO:
    file = open_new(folder / FILE_NAME)
    _write(file, version="brain.Event:2")
    return file


def _domain(parameters: list[Parameter]) -> Any:
    """The values that a column may take: listed options, a range over all cells, or any."""
    from tensorboard.plugins.hparams.summary_v2 import Discrete, RealInterval

    searches = [p.search for p in parameters]
    if any(isinstance(s, Choice) for s in searches):
        options = {o for s in searches if isinstance(s, Choice) for o in s.options}
        return Discrete(sorted(_plain(o) for o in options))
    ranges = [s for s in searches if isinstance(s, Range)]
    if ranges:
        return RealInterval(float(min(r.low for r in ranges)), float(max(r.high for r in ranges)))
    return None


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def write_schema(root: Path, fixed: Mapping[str, list[str]], parameters: Mapping[str, list[Parameter]]) -> None:
    """The experiment's columns, once at the root: text columns with their values, then all parameters.

    ``parameters``: by name, as each cell that has it defines it. The same columns for every trial.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    columns = [hp.HParam(name, hp.Discrete(sorted(values))) for name, values in fixed.items()]
    columns += [hp.HParam(name, _domain(listed)) for name, listed in parameters.items()]
    metrics = [hp.Metric(tag, display_name=name) for tag, name in METRICS.items()]
    with _open(root) as file:
        _write(file, hp.hparams_config_pb(columns, metrics))


def scalars_of(row: Mapping[str, Any], best: float) -> dict[str, float]:
    """The scalars of an epoch's row, by tag."""
    tags = {"val/accuracy": row["val_accuracy"], "val/best_accuracy": best, "val/loss": row["val_loss"]}
    for name, value in row.items():
        if name.startswith("train_"):
            tags[f"train/{name.removeprefix('train_')}"] = value
    return tags | {"optim/lr": row["lr"], "time/epoch_seconds": row["seconds"]}


class TrainingEvents:
    """The event file of one training. ``group``: trainings with the same one are shown as one row."""

    def __init__(self, folder: Path, hparams: Mapping[str, Any], group: str) -> None:
        from tensorboard.plugins.hparams import summary_v2 as hp

        self._file = _open(folder)
        self._rows = 0
        self._best = float("-inf")
        plain = {name: _plain(value) for name, value in hparams.items()}
        _write(self._file, hp.hparams_pb(plain, trial_id=group))
        self._file.flush()

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write the rows that are not in the file yet."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for row in history[self._rows :]:
            self._best = max(self._best, row["val_accuracy"])
            summary = Summary()
            for tag, value in scalars_of(row, self._best).items():
                summary.value.add(tag=tag, simple_value=value)
            _write(self._file, summary, step=row["epoch"], wall=row["time"])
        self._rows = max(self._rows, len(history))
        self._file.flush()

    def write_scalar(self, tag: str, value: float, step: int) -> None:
        """One scalar more."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary()
        summary.value.add(tag=tag, simple_value=value)
        _write(self._file, summary, step=step)

    def close(self, status: str | None = None) -> None:
        """Close the file; ``status`` "success" or "failure" ends the session, None leaves it running."""
        if self._file.closed:
            return
        if status:
            self._write_end(status)
        self._file.close()

    def _write_end(self, status: str) -> None:
        from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
        from tensorboard.plugins.hparams import summary_v2 as hp

        code = api_pb2.STATUS_SUCCESS if status == "success" else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=time.time())
        data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        _write(self._file, hp._summary_pb("_hparams_/session_end_info", data))

    def __enter__(self) -> "TrainingEvents":
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: object, _t: TracebackType | None) -> None:
        self.close()
