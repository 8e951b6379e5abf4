"""The model to take from a run."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cotuning_tune.api._model import Labelled, Model, Picture, load
from cotuning_tune.base.errors import UserError
from cotuning_tune.export.chosen import Winner, find_winner
from cotuning_tune.report.answer import interval_of, taken
from cotuning_tune.report.models import read_models
from cotuning_tune.report.repeats import read_searches
from cotuning_tune.report.results import read_studies
from cotuning_tune.runs.folder import RunDir


@dataclass(frozen=True)
class Best:
    """A study's chosen configuration and its retrained model: scores as the report has them, in percent most often.

    ``val_score`` is what the choice was made by and flatters; ``test_score`` is the mean over the seeds, ``std`` their
    sample standard deviation (None of one seed).
    """

    winner: Winner

    @property
    def study(self) -> str:
        return self.winner.study.name

    @property
    def task(self) -> str:
        return self.winner.study.task

    @property
    def method(self) -> str:
        return self.winner.study.method

    @property
    def metric(self) -> str:
        return self.winner.study.metric.name

    @property
    def values(self) -> dict[str, Any]:
        """The searched hyper-parameters, by their keys in the experiment file."""
        return dict((self.winner.study.selection or {})["values"])

    @property
    def val_score(self) -> float:
        return float((self.winner.study.selection or {})["val_score"])

    @property
    def test_score(self) -> float:
        return fmean(self.winner.study.scores)

    @property
    def std(self) -> float | None:
        scores = self.winner.study.scores
        return stdev(scores) if len(scores) > 1 else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Where the score on new examples lies, at 95 %; None where that is not known."""
        mine = self.winner.study
        every = read_models([study for study in read_studies(self.winner.run) if study.setting == mine.setting])
        return interval_of(mine, next((one for one in every if one.setting == mine.setting), None))

    def load(self, seed: int | None = None) -> Model:
        """The retrained model as a torch module with its transform; no data set is needed.

        ``seed``: of the retraining, by default the lowest. Raises UserError where there is none, or it reads texts.
        """
        return load(self.winner if seed is None else find_winner(self.winner.run, self.study, seed))

    @cached_property
    def _model(self) -> Model:
        return self.load()

    def predict(self, images: Iterable[Picture] | Picture) -> list[Labelled]:
        """The class of each image or image file. Raises UserError for one that cannot be read."""
        return self._model.predict(images)

    def export(self, format: str, out: str | Path | None = None, *, with_preprocessing: bool = False) -> Path:
        """Write the model as a folder that works without the run, as ``cotuning-tune export``; where.

        Raises UserError for another format, and where the exported model would not say the same.
        """
        from cotuning_tune.export.write import export_model

        return export_model(self.winner, format, out, inside=with_preprocessing)[0].path

    def __repr__(self) -> str:
        metric, within = self.winner.study.metric, self.interval
        low_high = f" ({metric.text(within[0])} to {metric.text(within[1])})" if within else ""
        return f"Best({self.study}: test {metric.text(self.test_score)}{metric.unit}{low_high}, {self.values})"


def best_of(run: RunDir, task: str, study: str, seed: int | None) -> Best:
    """The study's model, or the one that validation puts first on a task, as the report's answer names it.

    Raises UserError where there is none yet, or several tasks and none is named.
    """
    if study:
        return Best(find_winner(run, study, seed))
    studies = read_studies(run)
    picks = taken(run, studies, read_searches(run, studies))
    if not picks:
        raise UserError(f"{run.path} has no retrained model yet: run.retrain(), or cotuning-tune retrain {run.path}")
    found = [Best(find_winner(one.run, one.study.name, seed)) for one in picks]
    tasks = [one.task for one in found]
    mine = [one for one in found if task in ("", one.task)]
    if len(mine) != 1:
        which = f"none for the task '{task}'" if task else f"{len(found)} tasks"
        raise UserError(f"{run.path} has {which}: best(task=...) takes one of {', '.join(tasks)}")
    return mine[0]
