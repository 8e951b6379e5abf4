"""MLflow: a run with a child for each trial, and for each retraining a child that holds its seeds.

Without MLFLOW_TRACKING_URI it writes ``trackers/mlflow.db`` in the run's folder (SQLite).
"""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from cotuning_tune.runs.events import RunState
from cotuning_tune.trackers._base import PROJECT, Ending, TrackedRun, Tracker, Training

if TYPE_CHECKING:
    from mlflow.entities import Run

KEY, STATE, EPOCH = "cotuning_tune.key", "cotuning_tune.state", "epoch"
ENDED_AS: dict[RunState, str] = {"done": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}


class MLflow(Tracker):
    """Finds its runs by a tag. A number that is sent twice has the same time and step: MLflow keeps it once."""

    package: ClassVar[str] = "mlflow"
    install: ClassVar[str] = "cotuning_tune[mlflow]"
    variable: ClassVar[str] = "MLFLOW_TRACKING_URI"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._runs: dict[str, str] = {}  # MLflow's number by our key
        self._parents: dict[str, str] = {}  # of the run ('') and of each retraining

    @property
    def place(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.run.folder / 'mlflow.db'}"

    def begin(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        known = self._client.get_experiment_by_name(name)
        own = None if os.environ.get("MLFLOW_TRACKING_URI") else (self.run.folder / "mlflow_artifacts").as_uri()
        self._experiment: str = known.experiment_id if known else self._client.create_experiment(name, own)
        self._parent("")

    def start(self, training: Training) -> int:
        from mlflow.entities import Param

        tags = {"mlflow.parentRunId": self._parent(training.group), "cotuning_tune.stage": training.stage}
        found = self._run(training.key, training.name, tags)
        self._runs[training.key] = found.info.run_id
        params = [Param(name, str(value)) for name, value in training.params.items()]
        self._client.log_batch(found.info.run_id, params=params)
        self._client.update_run(found.info.run_id, status="RUNNING")
        return int(found.data.metrics.get(EPOCH, 0))

    def epoch(self, training: Training, epoch: int, values: Mapping[str, float], when: float) -> None:
        self._log(training, {**values, EPOCH: epoch}, epoch, when)

    def end(self, training: Training, ending: Ending) -> None:
        number = self._runs[training.key]
        self._log(training, ending.values, ending.epochs, ending.when)
        for name, text in ((STATE, ending.state), ("cotuning_tune.reason", ending.reason)):
            if text:
                self._client.set_tag(number, name, text)
        self._client.set_terminated(self._runs.pop(training.key), "FAILED" if ending.state == "FAIL" else "FINISHED")

    def close(self, state: RunState) -> None:
        for number in self._parents.values():
            self._client.set_terminated(number, ENDED_AS[state])

    def _log(self, training: Training, values: Mapping[str, float], step: int, when: float) -> None:
        from mlflow.entities import Metric

        every = [Metric(name, float(value), int(1000 * when), step) for name, value in values.items()]
        self._client.log_batch(self._runs[training.key], metrics=every)

    def _parent(self, group: str) -> str:
        """The run that a group's trainings are children of; itself a child, but for the group '' of the run."""
        if group not in self._parents:
            above = {"mlflow.parentRunId": self._parent("")} if group else {}
            key = f"{self.run.key}/{group}" if group else self.run.key
            found = self._run(key, group or self.run.name, above)
            self._client.update_run(found.info.run_id, status="RUNNING")
            self._parents[group] = found.info.run_id
        return self._parents[group]

    def _run(self, key: str, name: str, tags: Mapping[str, str]) -> "Run":
        """The run of that key, made where there is none."""
        if found := self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{key}'", max_results=1):
            return found[0]
        return self._client.create_run(self._experiment, tags={KEY: key, **tags}, run_name=name)
