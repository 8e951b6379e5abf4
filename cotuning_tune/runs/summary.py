"""``summary.json``: where a run stands, kept current by its driver for whoever looks from outside.

It outlives the cluster and its dashboards, and nothing is computed from it. Imports neither torch nor ray.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypedDict

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.runs.events import ENDED_AS, Ended, Event, Reported, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import read_facts
from cotuning_tune.runs.stream import Stream
from cotuning_tune.scores import ACCURACY

EVERY_S = 1.0  # at least between two writes
BEAT_S = 60.0  # at most between two writes
LAST_S = 10.0  # for the last one: a storage that is away does not keep an ended driver


def standing_of(run: RunDir, studies: Iterable[str], trials: int, seeds: Iterable[int]) -> Standing:
    """What the files say before this driver has done anything: ended searches, retrained seeds.

    ``trials`` for each study, confirmations among them, and the ``seeds`` that are retrained. Of damaged files
    nothing is said: whoever needs them says so.
    """
    names, every = list(studies), list(seeds)
    try:
        return with_seeds(_searched(run, names, trials), run, names, every)
    except (UserError, OSError, KeyError):
        return Standing(budget=trials * len(names), retrain_budget=len(names) * len(every))


def _searched(run: RunDir, studies: list[str], trials_each: int) -> Standing:
    folders = [run.study(name) for name in studies]
    ended = {folder.name: read_facts(folder.summary) for folder in folders if folder.summary.exists()}
    chosen = {f.name: read_facts(f.selection)["val_score"] for f in folders if f.selection.exists()}
    every = {name: [*study["trials"], *study["confirmations"]] for name, study in ended.items()}
    counts = {n: Counter(ENDED_AS[t["state"]] for t in ts if t["state"] in ENDED_AS) for n, ts in every.items()}
    return Standing(
        trials=counts,
        budget=sum(s["budget"] + len(s["confirmations"]) for s in ended.values())
        + trials_each * (len(studies) - len(ended)),
        best=chosen,
        metrics={name: str(study.get("metric", ACCURACY.name)) for name, study in ended.items()},
        search_seconds=sum(trial["seconds"] for trials in every.values() for trial in trials),
    )


def with_seeds(standing: Standing, run: RunDir, studies: Iterable[str], seeds: Iterable[int]) -> Standing:
    """The same with what has been retrained of these studies and seeds. Raises UserError for damaged files."""
    results = [run.study(name).retrain(seed).result for name in studies for seed in seeds]
    there = [read_json(path) for path in results if path.exists()]
    seconds = [found["seconds"] for found in there if not found.get("again")]  # those are taken up again
    return replace(standing, retrained=len(seconds), retrain_budget=len(results), retrain_seconds=sum(seconds))


class Content(TypedDict):
    """What the file holds, of all searches together; times in seconds since 1970, scores as the studies' metrics have
    them."""

    state: str
    phase: str
    done: int
    budget: int
    failed: int
    running: int
    share: int
    retrained: int
    retrain_budget: int
    best: dict[str, float]
    metrics: dict[str, str]
    restarts: int
    trial_hours: float
    gpu_hours: float
    host: str
    started: float
    updated: float
    reason: str
    answer: Mapping[str, object]


class Summary:
    """Writes a run's ``summary.json``; a thread of its own writes, at every change.

    Nothing is written before the run is ``Checked``, nor once a newer driver owns it. What cannot be written is
    left out: the next change, or the next minute, tries again. ``Ended`` waits for the last write, not for ever.
    """

    def __init__(self) -> None:
        self.state, self.reason, self.started = "running", "", time.time()
        self.answer: Mapping[str, object] = {}
        self._changed, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event, now: Stream) -> None:
        if not now.checked or self._ended.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_on, args=(now,), daemon=True)
            self._thread.start()
        if isinstance(event, Reported):
            self.answer = event.answer
        if isinstance(event, Ended):
            self.state, self.reason = event.state, event.reason
            self._ended.set()
        self._changed.set()
        if self._ended.is_set():
            self._thread.join(LAST_S)

    def content(self, now: Stream) -> Content:
        """What the file holds."""
        every = list(now.searches.items())

        def named(name: str, study: str) -> str:
            return study if name == now.run.name else f"{name}/{study}"

        return {
            "state": self.state,
            "phase": now.standing.stage,
            "done": sum(one.done for _, one in every),
            "budget": sum(one.budget for _, one in every),
            "failed": sum(one.failed for _, one in every),
            "running": sum(one.running for _, one in every),
            "share": now.concurrent,
            "retrained": sum(one.retrained for _, one in every),
            "retrain_budget": sum(one.retrain_budget for _, one in every),
            "best": {named(name, study): score for name, one in every for study, score in one.best.items()},
            "metrics": {study: metric for _, one in every for study, metric in one.metrics.items()},
            "restarts": max(now.driver - 1, 0),
            "trial_hours": now.hours,
            "gpu_hours": now.hours * now.gpus,
            "host": socket.gethostname(),
            "started": self.started,
            "updated": time.time(),
            "reason": self.reason,
            "answer": self.answer,
        }

    def _write_on(self, now: Stream) -> None:
        last = False
        while not last:
            self._changed.wait(BEAT_S)
            self._changed.clear()
            last = self._ended.is_set()
            self._write(now, durable=last)
            self._ended.wait(EVERY_S)

    def _write(self, now: Stream, *, durable: bool) -> None:
        try:
            if now.run.read_incarnation() == now.driver and now.run.experiment_file.exists():
                write_json(now.run.summary, self.content(now), durable=durable)
        except Exception:  # an object store raises more than OSError, and no run shall end for its summary
            return
