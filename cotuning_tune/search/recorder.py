"""What the driver writes of each trial: ``trials/NNNN/`` and its TensorBoard events. One writer."""

from typing import Any

from cotuning_tune.base.files import write_json, write_lines
from cotuning_tune.experiment import Experiment, Study
from cotuning_tune.hyper import Parameter
from cotuning_tune.run.folder import RunDir
from cotuning_tune.search.curves import Curves
from cotuning_tune.search.study import Issue, OptunaStudy, Studies
from cotuning_tune.tensorboard.dashboard import columns, layout, write_dashboard
from cotuning_tune.tensorboard.events import STOPPED_EARLY, TrainingEvents
from cotuning_tune.training.state import remove_states


def columns_of(experiment: Experiment) -> dict[str, list[Parameter]]:
    """The parameters that every trial is compared by: the searched ones, and every method's weights."""
    columns: dict[str, list[Parameter]] = {}
    for name in experiment.config.methods:
        for key, parameter in experiment.space(name).items():
            if parameter.search is not None or parameter.neutral is not None:
                columns.setdefault(key, []).append(parameter)
    return columns


def column_values(experiment: Experiment, study: Study, values: dict[str, Any]) -> dict[str, Any]:
    """A trial's values of ``columns_of``; parameters of other methods are left out."""
    space = experiment.space(study.method)
    return {k: values.get(k, space[k].first) for k in columns_of(experiment) if k in space}


def write_overview(run: RunDir, experiment: Experiment) -> None:
    """What TensorBoard needs to know of the run as a whole."""
    c = experiment.config
    fixed = {"task": c.tasks, "rate": [f"{rate:g}" for rate in c.rates], "method": c.methods}
    fixed |= {"stage": ["search", "retrain"], "run": [run.name]}
    shown = columns(fixed, columns_of(experiment), stops=c.pruner != "none")
    charts = layout({study.setting: f"{study.task} at {100 * study.rate:g} %" for study in experiment.studies})
    write_dashboard(run.tensorboard, shown, charts)


class Recorder:
    """Writes config, metrics and result of trials; keeps the event files of the running ones open."""

    def __init__(self, run: RunDir, studies: Studies) -> None:
        self.run, self.experiment = run, studies.experiment
        self._open: dict[tuple[str, int], TrainingEvents] = {}
        self._kept: dict[str, int] = {}
        write_overview(run, self.experiment)
        self._curves = Curves(run, studies)

    def _hparams(self, issue: Issue) -> dict[str, Any]:
        study = issue.study
        values = column_values(self.experiment, study, issue.values)
        return {
            "task": study.task,
            "rate": f"{study.rate:g}",
            "method": study.method,
            "stage": "search",
            "run": self.run.name,
            **values,
        }

    def start(self, issue: Issue, spec: dict[str, Any]) -> None:
        """A trial begins, or continues: its config and the start of its TensorBoard session."""
        folder = self.run.study(issue.study.name).trial(issue.number)
        write_json(folder.config, {"trial": issue.number, "values": issue.values, "spec": spec}, durable=False)
        events = self.run.tensorboard / "search" / issue.study.name / f"{issue.number:04d}"
        self._open[issue.study.name, issue.number] = TrainingEvents(events, self._hparams(issue))

    def report(self, issue: Issue, history: list[dict[str, Any]]) -> None:
        """The epochs so far."""
        write_lines(self.run.study(issue.study.name).trial(issue.number).metrics, history)
        self._open[issue.study.name, issue.number].write_history(history)

    def finish(self, issue: Issue, result: dict[str, Any]) -> None:
        """The result, written last; after it the state that resumes the trial is not needed."""
        folder = self.run.study(issue.study.name).trial(issue.number)
        ok = result["state"] != "FAIL"
        stopped = {STOPPED_EARLY: 1.0} if result["state"] == "PRUNED" else {}
        self._open.pop((issue.study.name, issue.number)).end("success" if ok else "failure", stopped)
        write_json(folder.result, result)
        remove_states(folder)

    def keep_best(self, study: str, ended: int, best: int | None) -> None:
        """Of the ended trials of a study the best one alone keeps the weights of its best epoch."""
        for number in {ended, self._kept.get(study, ended)} - {best}:
            self.run.study(study).trial(number).best_weights.unlink(missing_ok=True)
        if best is not None:
            self._kept[study] = best

    def draw(self, study: OptunaStudy) -> None:
        """A trial of the study has ended, and its study knows: its curve continues."""
        self._curves.add(study)

    def lose(self, issue: Issue) -> None:
        """The infrastructure lost the trial: it will start again, its session stays open."""
        self._open.pop((issue.study.name, issue.number)).close()

    def close(self) -> None:
        """The search is over, or leaves off: sessions of trials that did not end stay as running."""
        for events in self._open.values():
            events.close()
        self._curves.close()
