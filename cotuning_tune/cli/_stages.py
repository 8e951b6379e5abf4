"""The stages of a run, and how they tell where they stand: the progress line, the summary, the cluster's metrics."""

import sys
from dataclasses import dataclass
from typing import Any


def note(line: str) -> None:
    """A line for the user that is no part of a result."""
    print(f"note: {line}", flush=True)


@dataclass(frozen=True)
class Stages:
    """What is done with each search: on which slots of which cluster, with checkpoints of which sizes (bytes)."""

    slots: Any
    sizes: dict[str, int]
    address: str | None
    search: bool
    retrain: bool

    def work(self, run: Any, experiment: Any, owner: dict[str, Any], told: Any, which: str) -> bool:
        """Go through the stages of one search, whose lock ``owner`` holds; True where every cell has its budget.

        ``told``: its summary; ``which``: " 2/3" for the second of three searches.
        """
        from cotuning_tune.metrics import metrics_of
        from cotuning_tune.retrain import run_retraining
        from cotuning_tune.search.checks import keep_sizes
        from cotuning_tune.search.driver import Driver, run_search

        number, complete, config = run.raise_incarnation(owner), True, experiment.config
        told.begin(number, told.standing, self.slots.gpus)
        keep_sizes(run, self.sizes, self.slots.count)
        show = metrics_of(self.address, run.name, {cell.name: cell.method for cell in experiment.cells})
        print(f"{run.path}: {len(experiment.cells)} cells x {config.trials} trials, {self.slots.count} at a time")
        if self.search:
            with ProgressOf("search", which, told, show) as line:
                complete = run_search(run, experiment, Driver(number, self.slots, line.searched, line.say))
        if self.retrain:
            with ProgressOf("retrain", which, told, show) as line:
                how = {"crops": config.test_crops, "decode": experiment.task["decode"]}
                run_retraining(run, config.seeds, self.slots, number, line.retrained, **how)
        return complete


class ProgressOf:
    """Turns what the stages report into the progress line, the run's summary and the cluster's metrics."""

    def __init__(self, phase: str, which: str, told: Any, show: Any) -> None:
        from cotuning_tune.console import ProgressLine

        self.line, self.before, self.told, self.show = ProgressLine(sys.stdout, phase + which), -1, told, show
        told.change(phase=phase)

    def searched(self, progress: Any) -> None:
        from cotuning_tune.console import best_of

        failed = f" · {progress.failed} failed" if progress.failed else ""
        detail = f"{progress.running} running{failed} · {best_of(progress.best)}"
        self.line.show(progress.done, progress.asked, detail, progress.started_with)
        self.told.change(
            done=progress.done,
            asked=progress.asked,
            failed=progress.failed,
            running=progress.running,
            best=progress.best,
            search_seconds=progress.seconds,
        )
        self.show(self.told.content(), progress.trials)

    def retrained(self, progress: Any) -> None:
        self.before = progress.done if self.before < 0 else self.before
        self.line.show(progress.done, progress.asked, progress.last or "start", self.before)
        self.told.change(
            retrained=progress.done, retrain_asked=progress.asked, retrain_seconds=progress.seconds, running=0
        )
        self.show(self.told.content(), {})

    def say(self, notice: str) -> None:
        self.line.end()
        note(notice)

    def __enter__(self) -> "ProgressOf":
        return self

    def __exit__(self, *_: object) -> None:
        self.line.end()
