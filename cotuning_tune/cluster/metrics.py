"""The search's own figures among a Ray cluster's metrics, for Prometheus and Grafana.

Ray puts ``ray_`` before each name. Ray is imported inside: importing this module costs nothing.
"""

from collections import Counter
from collections.abc import Mapping

from cotuning_tune.runs.events import ENDED_AS, Event
from cotuning_tune.runs.stream import Stream

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cotuning_tune_trials": ("Trials of a study by state", ("study", "method", "state")),
    "cotuning_tune_best_val_score": ("Best validation score of a study so far", ("study", "method", "metric")),
    "cotuning_tune_trial_budget": ("Trial budget of all studies of a search", ()),
    "cotuning_tune_retrained": ("Seeds retrained", ()),
    "cotuning_tune_retrain_budget": ("Seeds to retrain", ()),
    "cotuning_tune_restarts": ("Drivers so far, less one", ()),
    "cotuning_tune_trial_hours": ("Hours of ended trainings", ()),
    "cotuning_tune_gpu_hours": ("GPU-hours of ended trainings", ()),
}
SHOWN = ENDED_AS.values()


class RunMetrics:
    """The gauges of a run on the connected cluster; every one carries the tag ``run``."""

    def __init__(self, methods: Mapping[str, str]) -> None:
        """``methods``: each study's method."""
        from ray.util.metrics import Gauge

        self.methods = dict(methods)
        self.gauges = {
            name: Gauge(name, description=text, tag_keys=("run", *tags)) for name, (text, tags) in METRICS.items()
        }

    def _set(self, name: str, value: float, **tags: str) -> None:
        self.gauges[f"cotuning_tune_{name}"].set(value, tags=tags)

    def __call__(self, event: Event, now: Stream) -> None:
        every, run, standing = list(now.searches.values()), now.run.name, now.standing
        self._set("retrained", sum(one.retrained for one in every), run=run)
        self._set("retrain_budget", sum(one.retrain_budget for one in every), run=run)
        self._set("restarts", max(now.driver - 1, 0), run=run)
        self._set("trial_hours", now.hours, run=run)
        self._set("gpu_hours", now.hours * now.gpus, run=run)
        self._set("trial_budget", standing.budget, run=now.current)
        searched = standing.stage == "search"
        running = Counter(study for study, _ in standing.underway if searched)
        for study, method in self.methods.items():
            tags = {"run": now.current, "study": study, "method": method}
            if study in standing.best:
                self._set("best_val_score", standing.best[study], metric=standing.metrics.get(study, ""), **tags)
            counts = {**dict.fromkeys(SHOWN, 0), **standing.trials.get(study, {}), "running": running[study]}
            for state, count in counts.items():
                self._set("trials", count, state=state, **tags)
