"""The search's own figures among a Ray cluster's metrics, for Prometheus and Grafana.

Ray puts ``ray_`` before each name. Ray is imported inside: importing this module costs nothing.
"""

from collections.abc import Callable, Mapping

from cotuning_tune.run.summary import Summary

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cotuning_tune_trials": ("Trials of a study by state", ("study", "method", "state")),
    "cotuning_tune_best_val_accuracy": ("Best validation accuracy of a study so far (%)", ("study", "method")),
    "cotuning_tune_trial_budget": ("Trials that all studies of a search shall have", ()),
    "cotuning_tune_retrained": ("Seeds retrained", ()),
    "cotuning_tune_retrain_budget": ("Seeds that shall be retrained", ()),
    "cotuning_tune_restarts": ("Drivers so far, less one", ()),
    "cotuning_tune_trial_hours": ("Hours of ended trainings", ()),
    "cotuning_tune_gpu_hours": ("GPU-hours of ended trainings", ()),
}
OF_THE_RUN = ("retrained", "retrain_budget", "restarts", "trial_hours", "gpu_hours")
Counts = Mapping[str, Mapping[str, int]]
Show = Callable[[Summary, Mapping[str, float], Counts], None]


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

    def show(self, told: Summary, best: Mapping[str, float], trials: Counts) -> None:
        """``best`` and ``trials`` by state are those of the current search, by study."""
        content, run = told.content(), told.run.name
        for name in OF_THE_RUN:
            self._set(name, content[name], run=run)
        self._set("trial_budget", told.searches[told.current].budget, run=told.current)
        for study, accuracy in best.items():
            self._set("best_val_accuracy", accuracy, run=told.current, study=study, method=self.methods[study])
        for study, counts in trials.items():
            for state, count in counts.items():
                self._set("trials", count, run=told.current, study=study, method=self.methods[study], state=state)


def metrics_of(address: str | None, methods: Mapping[str, str]) -> Show:
    """What takes the figures; nothing does where the cluster is this process's own, which nobody scrapes."""
    return RunMetrics(methods).show if address else lambda told, best, trials: None
