"""What the driver writes of each trial: ``trials/NNNN/``. One writer."""

from cotuning_tune.base.files import write_json, write_lines
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Epoch, TrialResult, Values, read_rows
from cotuning_tune.search.study import Issue
from cotuning_tune.training.state import remove_states


class Recorder:
    """Writes config, metrics and result of trials."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._known: dict[tuple[str, int], int] = {}  # epochs in the file of a trial

    def start(self, issue: Issue, specs: list[Values]) -> None:
        """A trial begins, or continues: its config, with a spec for each validation split and what its study knows."""
        folder = self.run.study(issue.study.name).trial(issue.number)
        known = {"params": issue.params, "attrs": issue.attrs}
        write_json(
            folder.config, {"trial": issue.number, "values": issue.values, **known, "specs": specs}, durable=False
        )

    def report(self, issue: Issue, history: list[Epoch]) -> int:
        """The epochs so far; how many of them are new. What a kill took back stays until it is reached again."""
        metrics, trial = self.run.study(issue.study.name).trial(issue.number).metrics, (issue.study.name, issue.number)
        if trial not in self._known:
            self._known[trial] = len(read_rows(metrics))
        new = max(0, len(history) - self._known[trial])
        if new:
            write_lines(metrics, history)
            self._known[trial] = len(history)
        return new

    def finish(self, issue: Issue, result: TrialResult) -> None:
        """The result, written last."""
        write_json(self.run.study(issue.study.name).trial(issue.number).result, result)

    def release(self, issue: Issue) -> None:
        """The study knows the result: the state that resumes the trial is not needed any more."""
        self._known.pop((issue.study.name, issue.number), None)
        remove_states(self.run.study(issue.study.name).trial(issue.number))
