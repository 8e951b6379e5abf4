"""The curves of CUSTOM SCALARS: the best validation score so far of each study, by trials that have ended."""

import math

from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.study import OptunaStudy, Studies
from cotuning_tune.tensorboard.dashboard import METHODS, curve_tag
from cotuning_tune.tensorboard.events import EventFile

Point = tuple[int, float, float]


def _end(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0


def best_curve(study: OptunaStudy) -> list[Point]:
    """For each trial that has ended, in the order of their ends: how many, the best score, when.

    The score is that of trials of full length; failed and stopped ones count as spent. It begins with
    the first trial of full length.
    """
    ended = [t for t in study.own_trials() if t.state.is_finished()]
    best, points, better = math.nan, list[Point](), study.metric.oriented
    for count, trial in enumerate(sorted(ended, key=lambda t: (_end(t), t.number)), 1):
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if math.isnan(best) else max(best, trial.value, key=better)
        if not math.isnan(best):
            points.append((count, best, _end(trial)))
    return points


class Curves:
    """An event file for each method: written afresh as the first trial ends, then added to."""

    def __init__(self, run: RunDir, studies: Studies) -> None:
        self.run, self.studies = run, studies
        self._files: dict[str, EventFile] = {}
        self._written = dict.fromkeys(studies.by_name, 0)

    def add(self, study: OptunaStudy) -> None:
        """Write the points of a study that are not in its method's file yet."""
        for name in self.studies.experiment.config.methods if not self._files else ():
            self._files[name] = EventFile(self.run.tensorboard / METHODS / name)
        for one in self.studies.by_name.values() if not any(self._written.values()) else (study,):
            self._add(one)

    def _add(self, study: OptunaStudy) -> None:
        points, key = best_curve(study), study.key
        for count, best, wall in points[self._written[key.name] :]:
            self._files[key.method].write_scalars({curve_tag(key.setting): best}, step=count, wall=wall)
        self._written[key.name] = len(points)
        self._files[key.method].flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
