"""The seam to Ray Tune: a searcher that deals out the studies' trials and takes their reports back."""

from typing import cast

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cotuning_tune.cluster.driver import LOST, Driver
from cotuning_tune.cluster.execute import Dealer, is_lost, leaves_tune
from cotuning_tune.runs.events import EpochEnded, TrialEnded, TrialStarted, TrialState
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Epoch, TrialReport, TrialResult, Values, read_rows
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.study import Issue, Studies
from cotuning_tune.training.job import kept_row
from cotuning_tune.training.splits import method_share


class StudySearcher(Dealer):
    """Tune executes; what is true stands in the studies. Nothing here needs to be saved or restored.

    The order of writes makes any kill harmless: files first, then the study. A trial whose result is
    on disk but RUNNING in the study is told to it when the next driver starts.
    """

    def __init__(self, studies: Studies, recorder: Recorder, run: RunDir, driver: Driver) -> None:
        super().__init__(driver)
        self.studies, self.recorder, self.run = studies, recorder, run
        self.issued: dict[str, Issue] = {}
        self.reported: dict[str, int] = {}

    @property
    def at_work(self) -> dict[str, Issue]:
        """By Tune's name."""
        return self.issued

    def deal(self, trial_id: str) -> dict[str, object] | None:
        """A config for a new Tune trial; None while something runs that may need a successor."""
        self._check_owner()
        issue = self._next()
        if issue is None:
            return cast(None, Searcher.FINISHED) if self.studies.finished else None  # Tune types it without FINISHED
        self.issued[trial_id] = issue
        specs = self._specs(issue)
        self._start(issue, specs)
        return {
            "specs": specs,
            "folder": str(self.run.study(issue.study.name).trial(issue.number).path),
            "run": str(self.run.path),
            "incarnation": self.driver.number,
            "threads": self.driver.concurrency.cpus,
            "state_every": self.driver.concurrency.state_every,
            "each": self.studies.experiment.validates_each,
            "crops": "",
        }  # a records.TrialConfig

    def _specs(self, issue: Issue) -> list[Values]:
        """The trainings of a trial: one on each of its validation splits."""
        experiment = self.studies.experiment
        seed = experiment.config.search_seed
        return [experiment.spec(issue.study, issue.values, seed, split).to_json() for split in issue.splits]

    def _check_owner(self) -> None:
        """Before every write: wait for the storage; stop where a newer driver owns the run."""
        self.driver.check_owner(self.run)

    def _next(self) -> Issue | None:
        """The next trial to run; one that its pruner had ended when a driver died is only told."""
        while (issue := self.studies.next()) is not None:
            study = self.studies.by_name[issue.study.name]
            if not study.pruning_decided(issue.number):
                return issue
            history = read_rows(self.run.study(issue.study.name).trial(issue.number).metrics)
            specs = self._specs(issue)
            self._start(issue, specs)
            self.recorder.report(issue, history)
            kept = kept_row(history, cast(Values, specs[0]["train"])["epoch"], study.metric)
            self._write(issue, "PRUNED", history, "stopped early", kept)
        return None

    def _start(self, issue: Issue, specs: list[Values]) -> None:
        self.recorder.start(issue, specs)
        total, until = self.studies.total, self.studies.budget.until
        self.driver.stream.tell(TrialStarted(issue.study.name, issue.number, issue.values, total, until))

    def stops(self, trial_id: str, result: TrialReport) -> bool:
        """Take a report, and say whether the pruner ends the trial."""
        issue = self.issued[trial_id]
        self.on_trial_result(trial_id, result)
        return self.studies.by_name[issue.study.name].stops(issue.number)

    @leaves_tune
    def on_trial_result(self, trial_id: str, result: TrialReport) -> None:  # type: ignore[override]  # a bare dict in Tune
        """A report carries the whole history: the study fills what a killed driver missed."""
        issue, history = self.issued[trial_id], result["history"]
        if self.reported.get(trial_id) == len(history):
            return
        self._check_owner()
        self.reported[trial_id] = len(history)
        for notice in result["notices"]:
            self.driver.stream.notice(notice)
        new = self.recorder.report(issue, history)
        self.studies.by_name[issue.study.name].report(issue.number, history)
        self.driver.stream.tell(EpochEnded(issue.study.name, issue.number, history, new, result["epochs"]))

    @leaves_tune
    def on_trial_complete(  # type: ignore[override]  # a bare dict in Tune
        self, trial_id: str, result: TrialReport | None = None, error: bool = False
    ) -> None:
        """The end of a Tune trial: COMPLETE, the method's own FAIL, or lost by the infrastructure."""
        issue = self.issued.get(trial_id)
        if issue is None:
            return
        self._check_owner()
        if is_lost(result, error=error):
            self._lost(issue)
        elif result:
            self.on_trial_result(trial_id, result)
            self._ended(issue, result)
        del self.issued[trial_id]
        self.reported.pop(trial_id, None)

    def _ended(self, issue: Issue, result: TrialReport) -> None:
        study, history = self.studies.by_name[issue.study.name], result["history"]
        kept = {name: result[name] for name in ("val_score", "val_loss")}  # type: ignore[literal-required]
        if result["failed"]:
            self._write(issue, "FAIL", history, result["failed"])
        elif result["completed"]:
            self._write(issue, "COMPLETE", history, "", kept)
        elif study.pruning_decided(issue.number):  # else Tune was told to end: the trial stays RUNNING
            self._write(issue, "PRUNED", history, "stopped early", kept)

    def _lost(self, issue: Issue) -> None:
        folder = self.run.study(issue.study.name).trial(issue.number)
        epochs, owner = len(read_rows(folder.metrics)), folder.owner_token
        if self.studies.by_name[issue.study.name].reissue(issue.number, "the worker or its node died", epochs, owner):
            self._tell(issue, "LOST", None, 0.0)
        else:
            self._write(issue, "FAIL", [], LOST)

    def _write(
        self, issue: Issue, state: TrialState, history: list[Epoch], reason: str, kept: Epoch | None = None
    ) -> None:
        """Files first, then the study, then whoever watches. ``kept``: score and loss of the epoch that is kept."""
        study, seconds = self.studies.by_name[issue.study.name], sum(row["seconds"] for row in history)
        value = kept["val_score"] if kept else None
        result: TrialResult = {
            "state": state,
            "value": value,
            "epochs": len(history),
            "seconds": seconds,
            "reason": reason,
            "loss": kept["val_loss"] if kept else None,
            "share": method_share(history) if kept else None,
        }
        self.recorder.finish(issue, result)
        study.end_as(issue.number, result)
        self.recorder.release(issue)
        self._tell(issue, state, value, seconds)

    def _tell(self, issue: Issue, state: TrialState, value: float | None, seconds: float) -> None:
        best = self.studies.by_name[issue.study.name].best()
        score = best["score"] if best else None
        self.driver.stream.tell(TrialEnded(issue.study.name, issue.number, state, value, seconds, score))

    def hold(self) -> None:
        """The hours of a search are not used up meanwhile."""
        self.studies.budget.clock.stop()
        super().hold()


class StudyScheduler(FIFOScheduler):
    """Asks the studies' pruner; keeps no state, so a resume loses none."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()
        self.searcher = searcher

    @leaves_tune
    def on_trial_result(  # type: ignore[override]  # a bare dict in Tune
        self, tune_controller: object, trial: Trial, result: TrialReport
    ) -> str:
        """STOP where the rule ends the trial. Tune does not ask about a trial's last report."""
        stops = self.searcher.stops(trial.trial_id, result)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)
