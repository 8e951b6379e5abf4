"""``summary.json``: where a run stands, kept current by its driver for whoever looks from outside.

It outlives the cluster and its dashboards, and nothing is computed from it. Imports neither torch nor ray.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cotuning_tune.base.errors import TrainingFailed, Unfinished, UserError, first_line
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.run.folder import RunDir

EVERY_S = 1.0  # at least between two writes
BEAT_S = 60.0  # at most between two writes
COUNTED = ("done", "budget", "failed", "running", "retrained", "retrain_budget")
LAST_S = 10.0  # for the last one: a storage that is away does not keep an ended driver


@dataclass(frozen=True)
class Standing:
    """How far a search is. Seconds are those of ended trainings, as in the report; ``best`` by study in percent."""

    phase: str = "search"
    done: int = 0
    budget: int = 0
    failed: int = 0
    running: int = 0
    best: dict[str, float] = field(default_factory=dict)
    retrained: int = 0
    retrain_budget: int = 0
    search_seconds: float = 0.0
    retrain_seconds: float = 0.0


def standing_of(run: RunDir, experiment: Any) -> Standing:
    """What the files tell before this driver has done anything: ended searches, retrained seeds.

    Of damaged files nothing is told: whoever needs them says so.
    """
    trials, seeds = experiment.config.trials, experiment.config.seeds
    studies = [study.name for study in experiment.studies]
    try:
        return _standing(run, studies, trials, seeds)
    except (UserError, OSError, KeyError):
        return Standing(budget=trials * len(studies), retrain_budget=len(studies) * len(seeds))


def _standing(run: RunDir, studies: list[str], trials_each: int, seeds: tuple[int, ...]) -> Standing:
    folders = [run.study(name) for name in studies]
    ended = [read_json(folder.summary) for folder in folders if folder.summary.exists()]
    chosen = {f.name: read_json(f.selection)["val_accuracy"] for f in folders if f.selection.exists()}
    trials = [trial for study in ended for trial in study["trials"]]
    results = [folder.retrain(seed).result for folder in folders for seed in seeds]
    retrained = [read_json(path) for path in results if path.exists()]
    return Standing(
        done=sum(trial["state"] in ("COMPLETE", "PRUNED") for trial in trials),
        budget=sum(study["budget"] for study in ended) + trials_each * (len(studies) - len(ended)),
        failed=sum(trial["state"] == "FAIL" for trial in trials),
        best=chosen,
        retrained=len(retrained),
        retrain_budget=len(results),
        search_seconds=sum(trial["seconds"] for trial in trials),
        retrain_seconds=sum(result["seconds"] for result in retrained),
    )


class Summary:
    """The one writer of a run's ``summary.json``; a thread of its own writes, at every change.

    Nothing is written before ``begin``, nor once a newer driver owns the run. What cannot be written is left
    out: the next change, or the next minute, tries again.
    """

    def __init__(self, run: RunDir, then: Callable[[str], None] = lambda state: None) -> None:
        """``then(state)`` is called once, after the last write, unless a newer driver owns the run."""
        self.run, self.then, self.replaced = run, then, False
        self.searches, self.current = {run.name: Standing()}, run.name
        self.number, self.gpus = 0, 0.0
        self.state, self.reason, self.started = "running", "", time.time()
        self._changed, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune writes down all that it is given; a copy of this has not begun, and writes nothing."""
        return Summary, (self.run,)

    @property
    def begun(self) -> bool:
        return self._thread.ident is not None

    def begin(self, number: int, searches: dict[str, Standing]) -> None:
        """Write from now on, as the run's driver of that number; ``searches``: the run's own, and its repeats."""
        self.number, self.searches = number, dict(searches)
        self._changed.set()
        self._thread.start()

    def turn_to(self, search: RunDir, number: int, gpus: float) -> None:
        """Changes are of that search from now on, as its driver of that number; ``gpus``: what a training takes."""
        self.current, self.gpus = search.name, gpus
        if search == self.run:
            self.number = number
        self._changed.set()

    def change(self, **values: Any) -> None:
        """Some fields of the current search's ``Standing`` have new values."""
        self.searches[self.current] = replace(self.searches[self.current], **values)
        self._changed.set()

    def end(self, state: str, reason: str = "") -> None:
        """``done``, ``unfinished`` or ``failed``; the first call counts. Waits for the last write, not for ever."""
        if not self.begun or self._ended.is_set():
            return
        self.state, self.reason = state, reason
        self.change(running=0)
        self._ended.set()
        self._changed.set()
        self._thread.join(LAST_S)
        if not self.replaced:
            self.then(self.state)

    def content(self) -> dict[str, Any]:
        """What the file holds, of all searches together; times in seconds since 1970."""
        every = list(self.searches.items())
        hours = sum(now.search_seconds + now.retrain_seconds for _, now in every) / 3600
        best = {
            study if name == self.run.name else f"{name}/{study}": accuracy
            for name, now in every
            for study, accuracy in now.best.items()
        }
        return {
            "state": self.state,
            "phase": self.searches[self.current].phase,
            **{key: sum(getattr(now, key) for _, now in every) for key in COUNTED},
            "best": best,
            "restarts": max(self.number - 1, 0),
            "trial_hours": hours,
            "gpu_hours": hours * self.gpus,
            "host": socket.gethostname(),
            "started": self.started,
            "updated": time.time(),
            "reason": self.reason,
        }

    def _write_on(self) -> None:
        last = False
        while not last:
            self._changed.wait(BEAT_S)
            self._changed.clear()
            last = self._ended.is_set()
            self._write(durable=last)
            self._ended.wait(EVERY_S)

    def _write(self, *, durable: bool) -> None:
        try:
            self.replaced = self.run.read_incarnation() != self.number
            if not self.replaced and self.run.experiment_file.exists():
                write_json(self.run.summary, self.content(), durable=durable)
        except Exception:  # an object store raises more than OSError, and no run shall end for its summary
            return


def _ending(problem: BaseException) -> tuple[str, str]:
    """State and reason of a driver that an exception ends; the states go with the exit codes 85, 2 and 1."""
    if isinstance(problem, Unfinished):
        return "unfinished", problem.reason
    if isinstance(problem, KeyboardInterrupt):
        return "unfinished", f"interrupted by {problem}" if str(problem) else "interrupted"
    if isinstance(problem, UserError | TrainingFailed):
        return "failed", first_line(problem)
    return "failed", f"{type(problem).__name__}: {first_line(problem)}"


@contextmanager
def kept_summary(run: RunDir, then: Callable[[str], None] = lambda state: None) -> Iterator[Summary]:
    """The run's summary; however this is left, the last state is written: ``done`` where nothing went wrong.

    ``then``: see ``Summary``.
    """
    summary = Summary(run, then)
    try:
        yield summary
    except BaseException as problem:
        summary.end(*_ending(problem))
        raise
    summary.end("done")
