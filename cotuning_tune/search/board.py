"""The search in TensorBoard: a session of each trial, and the curves of the studies. Watches the search's events."""

from contextlib import AbstractContextManager
from functools import singledispatchmethod
from itertools import product
from types import TracebackType

from optuna.trial import FrozenTrial

from cotuning_tune.experiment import BACKBONE, Experiment, Study
from cotuning_tune.hyper import Parameter
from cotuning_tune.runs.events import EpochEnded, StageStarted, TrialEnded, TrialStarted
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Values, read_rows
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search.curves import Curves
from cotuning_tune.search.rows import CONFIRMS, values_of
from cotuning_tune.search.study import OptunaStudy, Studies
from cotuning_tune.tensorboard.dashboard import columns, layout, write_dashboard
from cotuning_tune.tensorboard.events import STOPPED_EARLY, TrainingEvents, write_ended


def columns_of(experiment: Experiment) -> dict[str, list[Parameter]]:
    """The parameters that every trial is compared by: the searched ones, every method's weights, several backbones."""
    columns: dict[str, list[Parameter]] = {}
    for name, backbone in product(experiment.config.methods, experiment.config.backbones or ("",)):
        for key, parameter in experiment.space(name, backbone).items():
            several = bool(backbone) and key == BACKBONE
            if parameter.search is not None or parameter.neutral is not None or several:
                columns.setdefault(key, []).append(parameter)
    return columns


def column_values(experiment: Experiment, study: Study, values: Values) -> Values:
    """A trial's values of ``columns_of``; parameters of other methods are left out."""
    space = experiment.space(study.method, study.backbone)
    return {k: values.get(k, space[k].first) for k in columns_of(experiment) if k in space}


def write_overview(run: RunDir, experiment: Experiment) -> None:
    """What TensorBoard needs to know of the run as a whole."""
    c = experiment.config
    fixed = {"task": c.tasks, "rate": [f"{rate:g}" for rate in c.rates], "method": c.methods}
    fixed |= {"stage": ["search", "confirm", "retrain"], "run": [run.name]}
    metrics = dict.fromkeys(experiment.metric(task) for task in c.tasks)
    shown = columns(fixed, columns_of(experiment), metrics=metrics, stops=c.pruner != "none")
    charts = layout({study.setting: study.shown for study in experiment.studies})
    write_dashboard(run.tensorboard, shown, charts)


class SearchBoard(AbstractContextManager["SearchBoard"]):
    """Keeps the event files of the running trials open, and writes what an earlier driver's death left out."""

    def __init__(self, run: RunDir, studies: Studies) -> None:
        self.run, self.studies, self.experiment = run, studies, studies.experiment
        self._open: dict[tuple[str, int], TrainingEvents] = {}
        self._curves = Curves(run, studies)

    def __call__(self, event: object, now: Stream) -> None:
        self._take(event)

    @singledispatchmethod
    def _take(self, event: object) -> None:
        """Nothing of other events."""

    @_take.register
    def _(self, event: StageStarted) -> None:
        write_overview(self.run, self.experiment)
        for study in self.studies.by_name.values():
            self._write_missing(study)

    @_take.register
    def _(self, event: TrialStarted) -> None:
        study = self.studies.by_name[event.study]
        folder = self.run.tensorboard / "search" / event.study / f"{event.trial:04d}"
        hparams = self._hparams(study.key, study.stored.trial(event.trial))
        self._open[event.study, event.trial] = TrainingEvents(folder, hparams, study.metric)

    @_take.register
    def _(self, event: EpochEnded) -> None:
        self._open[event.study, event.trial].write_history([dict(row) for row in event.history])

    @_take.register
    def _(self, event: TrialEnded) -> None:
        session = self._open.pop((event.study, event.trial))
        if event.state == "LOST":  # it will start again
            session.close()
            return
        session.end(*_status(event.state))
        self._curves.add(self.studies.by_name[event.study])

    def _hparams(self, study: Study, trial: FrozenTrial) -> Values:
        return {
            "task": study.task,
            "rate": f"{study.rate:g}",
            "method": study.method,
            "stage": "confirm" if CONFIRMS in trial.user_attrs else "search",
            "run": self.run.name,
            **column_values(self.experiment, study, values_of(trial)),
        }

    def _write_missing(self, study: OptunaStudy) -> None:
        """The sessions of ended trials whose driver was killed before it had written them."""
        for trial in study.trained():
            folder = self.run.tensorboard / "search" / study.key.name / f"{trial.number:04d}"
            if not trial.state.is_finished() or folder.exists():
                continue
            history = read_rows(self.run.study(study.key.name).trial(trial.number).metrics)
            status, scalars = _status(trial.state.name)
            whole = [row for row in history if "time" in row]  # a repaired folder's rows are not
            write_ended(folder, self._hparams(study.key, trial), whole, status, metric=study.metric, scalars=scalars)

    def __exit__(self, kind: type[BaseException] | None, _e: object, _t: TracebackType | None) -> None:
        """Sessions of trials that did not end stay as running."""
        for events in self._open.values():
            events.close()
        self._curves.close()


def _status(state: str) -> tuple[str, dict[str, float]]:
    """The session's status, and its scalars, of a trial's end."""
    return "failure" if state == "FAIL" else "success", {STOPPED_EARLY: 1.0} if state == "PRUNED" else {}
