"""What the terminal shows of a run: one more observer of its events."""

import sys
import time
from functools import singledispatchmethod

from cotuning_tune.base.console import ProgressLine, duration
from cotuning_tune.runs.events import (
    Ended,
    EpochEnded,
    Notice,
    SeedEnded,
    SeedStarted,
    ShareChanged,
    StageStarted,
    Standing,
    TrialEnded,
    TrialStarted,
    Waiting,
    best_of,
)
from cotuning_tune.runs.stream import Stream
from cotuning_tune.scores import metric_of


class Terminal:
    """A progress line for each stage; notices, and on standard error what the run waits for.

    A trial's end is shown with the next event: its successor starts at once, and counts as running then.
    """

    def __init__(self) -> None:
        self._line: ProgressLine | None = None
        self._before, self._last = 0, "start"

    def __call__(self, event: object, now: Stream) -> None:
        self._take(event, now)

    @singledispatchmethod
    def _take(self, event: object, now: Stream) -> None:
        """Nothing of other events."""

    @_take.register
    def _(self, event: StageStarted, now: Stream) -> None:
        self._leave()
        standing, studies = event.standing, len(event.standing.trials)
        number = list(now.searches).index(now.current) + 1
        which = f" {number}/{len(now.searches)}" if len(now.searches) > 1 else ""
        if standing.stage == "report":
            return
        if standing.stage == "search":
            left = standing.until - time.monotonic()
            trials = f"new trials for {duration(max(left, 0.0))}" if standing.until else f"{standing.budget} trials"
            print(f"{event.path}: {studies} studies, {trials}, {event.concurrent} at a time", flush=True)
        else:
            print(f"{event.path}: {standing.retrain_budget} seeds, {event.concurrent} at a time", flush=True)
        self._line = ProgressLine(sys.stdout, f"{standing.stage}{which}")
        self._before = standing.done if standing.stage == "search" else standing.retrained
        self._last = "start"
        self._show(standing)

    @_take.register(TrialStarted | EpochEnded | SeedStarted)
    def _(self, event: object, now: Stream) -> None:
        self._show(now.standing)

    @_take.register
    def _(self, event: ShareChanged, now: Stream) -> None:
        self._leave()
        print(f"note: {event.concurrent} at a time from now on", flush=True)

    @_take.register
    def _(self, event: TrialEnded, now: Stream) -> None:
        if now.standing.done >= now.standing.budget:
            self._show(now.standing)

    @_take.register
    def _(self, event: SeedEnded, now: Stream) -> None:
        metric = metric_of(now.standing.metrics.get(event.study, ""))
        tested = f" failed: {event.reason}"
        if event.test_score is not None:
            tested = f": test {metric.text(event.test_score)}{metric.unit}"
        self._last = f"{event.study} seed {event.seed}{tested}"
        if now.standing.retrained >= now.standing.retrain_budget:
            self._show(now.standing)

    @_take.register
    def _(self, event: Notice, now: Stream) -> None:
        self._leave()
        if event.urgent:
            print(f"cotuning-tune: {event.text}", file=sys.stderr, flush=True)
        else:
            print(f"note: {event.text}", flush=True)

    @_take.register
    def _(self, event: Waiting, now: Stream) -> None:
        self._leave()
        print(f"cotuning-tune: {event.reason}", file=sys.stderr, flush=True)

    @_take.register
    def _(self, event: Ended, now: Stream) -> None:
        self._leave()

    def _show(self, now: Standing) -> None:
        if self._line is None:
            return
        failed = f" · {now.failed} failed" if now.failed else ""
        if now.stage == "search":
            detail = f"{now.running} running{failed} · {best_of(now.best, now.metrics)}"
            self._line.show(now.done, now.budget, detail, self._before, now.share, now.until)
        else:
            self._line.show(now.retrained, now.retrain_budget, f"{now.running} running · {self._last}", self._before)

    def _leave(self) -> None:
        if self._line is not None:
            self._line.end()
