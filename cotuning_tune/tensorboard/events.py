"""TensorBoard event files: scalars that compare across trials, HParams sessions with their true status, images.

One folder a training, written by the driver. While it runs the folder's name ends in ``.running`` and its
status is RUNNING; when it ends it is written whole under its own name, with its status: TensorBoard keeps the
first status that it reads of a folder. HParams knows no fourth outcome, so a trial that was stopped early is
a success with ``trial/stopped_early`` = 1. Plain tags; a step is an epoch, its wall time that of the epoch.

A training that continues after a kill gets its file written afresh from its history, so no step stands twice;
under a new name, since TensorBoard does not notice when a file is replaced by another one of its name.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cotuning_tune.base.files import open_new, remove_folder
from cotuning_tune.scores import Metric

STOPPED_EARLY = "trial/stopped_early"
RUNNING = ".running"
PATTERN = "events.out.tfevents.*"


class EventFile:
    """A new event file in a folder; older ones there are removed."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        older = list(folder.glob(PATTERN))
        self._file = open_new(folder / PATTERN.replace("*", f"{time.time_ns()}.cotuning_tune"))
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        for path in older:
            path.unlink(missing_ok=True)

    def _write(self, wall: float | None = None, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time() if wall is None else wall, **content)
        self._records.write(event.SerializeToString())

    def write_scalars(self, values: Mapping[str, float], step: int, wall: float | None = None) -> None:
        """Scalars by tag, at one step; ``wall``: seconds since 1970, now by default."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary()
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        self._write(wall, step=step, summary=summary)

    def write_image(self, tag: str, png: bytes, step: int) -> None:
        """A PNG image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def write_hparams(self, tag: str, **content: Any) -> None:
        """A message of the HParams plugin: ``experiment``, ``session_start_info`` or ``session_end_info``."""
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2

        kind = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
        self.write_tensor(tag, metadata.NULL_TENSOR, kind)

    def write_tensor(self, tag: str, tensor: Any, metadata: Any) -> None:
        """What a plugin reads: a tensor and its metadata."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(summary=Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]))

    def flush(self) -> None:
        """Let others read what has been written."""
        self._file.flush()

    def close(self) -> None:
        """Flush, and write no more."""
        self._file.close()

    def __enter__(self) -> "EventFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: object, _t: TracebackType | None) -> None:
        self.close()


def scalars_of(row: Mapping[str, Any], best: float | None, metric: Metric) -> dict[str, float]:
    """The scalars of an epoch's row, by tag; ``best``: the score so far, None where every example is trained on."""
    tags: dict[str, float] = {}
    if "val_score" in row and best is not None:
        tags = {f"val/{metric.name}": row["val_score"], f"val/best_{metric.name}": best}
    for name, value in row.items():
        split, _, rest = name.partition("_")
        if split in ("val", "train") and name != "val_score":
            tags[f"{split}/{rest}"] = value
    return tags | {"optim/lr": row["lr"], "time/epoch_seconds": row["seconds"]}


def best_so_far(rows: Sequence[Mapping[str, Any]], metric: Metric, best: float | None = None) -> list[float | None]:
    """The best validation score after each row (``best``: before them); None where every example is trained on."""
    found = []
    for row in rows:
        known = [score for score in (best, row.get("val_score")) if score is not None]
        best = max(known, key=metric.oriented, default=None)
        found.append(best)
    return found


def tested_scalars(result: Mapping[str, Any], name: str) -> dict[str, float]:
    """What the test of a seed gave, by tag."""
    found = {key.removeprefix("test_"): value for key, value in result.items() if key.startswith("test_")}
    numbers = {key: value for key, value in found.items() if isinstance(value, float) and key != "score"}
    return {f"test/{key}": value for key, value in {name: result["test_score"], **numbers}.items()}


def _write_rows(file: EventFile, rows: list[dict[str, Any]], metric: Metric, best: float | None = None) -> float | None:
    """Write epochs; the best validation score after them (``best``: before them)."""
    found = best_so_far(rows, metric, best)
    for row, so_far in zip(rows, found, strict=True):
        file.write_scalars(scalars_of(row, so_far, metric), step=row["epoch"], wall=row["time"])
    return found[-1] if found else best


def _begin(folder: Path, hparams: Mapping[str, Any], group: str, started: float) -> EventFile:
    """A file that starts with a session; ``group``: sessions with the same one are one row, '' a row of its own."""
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    start = SessionStartInfo(group_name=group, start_time_secs=started)
    for name, value in hparams.items():
        kind = {bool: "bool_value", int: "number_value", float: "number_value"}.get(type(value), "string_value")
        setattr(start.hparams[name], kind, str(value) if kind == "string_value" else value)
    file = EventFile(folder)
    file.write_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start)
    return file


def _write_status(file: EventFile, status: str, ended: float = 0.0) -> None:
    """``status``: "running", "success" or "failure"."""
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    end = SessionEndInfo(status=api_pb2.Status.Value(f"STATUS_{status.upper()}"), end_time_secs=ended)
    file.write_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def write_ended(
    folder: Path,
    hparams: Mapping[str, Any],
    history: list[dict[str, Any]],
    status: str,
    *,
    metric: Metric,
    group: str = "",
    started: float | None = None,
    scalars: Mapping[str, float] | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> None:
    """The whole event file of a training that has ended; ``status`` "success" or "failure".

    ``started``: seconds since 1970, where there is no history. ``scalars`` and ``pictures`` (PNG) stand at
    the last step.
    """
    if history:
        started = history[0]["time"] - history[0]["seconds"]
    now, last = time.time(), len(history)
    with _begin(folder, hparams, group, now if started is None else started) as file:
        _write_rows(file, history, metric)
        if scalars:
            file.write_scalars(scalars, step=last)
        for tag, png in (pictures or {}).items():
            file.write_image(tag, png, step=last)
        _write_status(file, status, now)
    remove_folder(folder.with_name(folder.name + RUNNING))


class TrainingEvents:
    """The event file of a training that runs; once it ends it lies in ``folder``, until then beside it."""

    def __init__(self, folder: Path, hparams: Mapping[str, Any], metric: Metric) -> None:
        self._folder, self._hparams, self._metric, self._started = folder, hparams, metric, time.time()
        self._history: list[dict[str, Any]] = []
        self._best: float | None = None
        remove_folder(folder)  # of a driver that was killed before it could tell the study
        self._file = _begin(folder.with_name(folder.name + RUNNING), hparams, "", self._started)
        _write_status(self._file, "running")
        self._file.flush()

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write the rows that are not in the file yet."""
        self._best = _write_rows(self._file, history[len(self._history) :], self._metric, self._best)
        self._history = list(history)
        self._file.flush()

    def close(self) -> None:
        """Leave it as running: it will be continued."""
        self._file.close()

    def end(self, status: str, scalars: Mapping[str, float] | None = None) -> None:
        """The training has ended: "success" or "failure"; ``scalars`` stand at its last step."""
        self._file.close()
        write_ended(
            self._folder,
            self._hparams,
            self._history,
            status,
            metric=self._metric,
            started=self._started,
            scalars=scalars,
        )
