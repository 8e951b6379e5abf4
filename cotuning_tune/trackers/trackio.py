"""Trackio: a run for each trial in the group of the run, a group for the seeds of each retraining.

In ``trackers/trackio`` of the run's folder unless TRACKIO_DIR, TRACKIO_SERVER_URL or TRACKIO_SPACE_ID says otherwise.
"""

import contextvars
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from cotuning_tune.runs.events import RunState
from cotuning_tune.trackers._base import PROJECT, Ending, TrackedRun, Tracker, Training

if TYPE_CHECKING:
    import trackio

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class Trackio(Tracker):
    """Finds its runs by name and continues after their last step. The end is a step of its own, after all epochs."""

    package: ClassVar[str] = "trackio"
    install: ClassVar[str] = "cotuning_tune[trackio]"
    variable: ClassVar[str] = "TRACKIO_DIR"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._folder = os.environ.get("TRACKIO_DIR") or str(run.folder / "trackio")
        self._runs: dict[str, trackio.Run] = {}
        self._held: dict[str, int] = {}

    @property
    def place(self) -> str:
        return next((found for name in REMOTE if (found := os.environ.get(name))), self._folder)

    def begin(self) -> None:
        os.environ["TRACKIO_DIR"] = self._folder  # read when it is imported
        import trackio
        from trackio import run, utils

        for module in (trackio, run, utils):  # it prints what belongs on no driver's output
            vars(module)["print"] = lambda *_words, **_how: None
        if self.place == self._folder:  # nobody is asked over the network whose run this is
            vars(run)["_get_default_namespace"] = lambda: None

    def start(self, training: Training) -> int:
        import trackio

        def begun() -> "trackio.Run":
            return trackio.init(
                project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
                name=f"{self.run.group}/{training.name}",
                group=f"{self.run.group}/{training.group}" if training.group else self.run.group,
                config=dict(training.params),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

        # In a context of its own: a second run in one context ends the first.
        started = self._runs[training.key] = contextvars.Context().run(begun)
        self._held[training.key] = max(started._next_step - 1, 0)
        return self._held[training.key]

    def epoch(self, training: Training, epoch: int, values: Mapping[str, float], when: float) -> None:
        self._runs[training.key].log({**values, "epoch": epoch}, step=epoch)

    def end(self, training: Training, ending: Ending) -> None:
        run = self._runs.pop(training.key)
        if self._held.pop(training.key) <= ending.epochs:
            last = {**ending.values, "state": ending.state, "reason": ending.reason}
            run.log(last, step=ending.epochs + 1)
        run.finish()

    def close(self, state: RunState) -> None:
        for run in self._runs.values():
            run.finish()
