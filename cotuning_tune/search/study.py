"""The studies of a run: which trial comes next, what has been reported, how each ended.

Knows Optuna and nothing of Ray. All that a resumed search needs to know stands here: trials that are
RUNNING and that no living driver owns are handed out first, then new ones are asked for until
COMPLETE + PRUNED + RUNNING reaches the study's budget.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.experiment import Experiment, Study
from cotuning_tune.run.budget import Budget
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.records import Epoch, Values
from cotuning_tune.search.pruner import make_pruner
from cotuning_tune.search.samplers import make_sampler
from cotuning_tune.search.space import distributions, first_points
from cotuning_tune.search.stored_trials import queued_params, set_attr, set_param, set_report

REISSUES = 3
MARK = "from"  # names the old run's trial that an added one was copied from
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass(frozen=True)
class Issue:
    """A trial handed out: study, number, values of the searched parameters."""

    study: Study
    number: int
    values: Values


def accuracy_of(trial: FrozenTrial) -> float:
    """The best validation accuracy (%) of a trial, whether it ended or was stopped; -inf of none."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return trial.value
    return max(trial.intermediate_values.values(), default=-math.inf)


@dataclass
class OptunaStudy:
    """One study's study and what this driver knows of it."""

    key: Study
    optuna: optuna.Study
    experiment: Experiment
    size: Budget
    orphans: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        space = self.experiment.space(self.key.method)
        self.distributions = distributions(space)
        self.firsts = first_points(space)
        self.pruner = make_pruner(self.experiment.config.pruner, self.experiment.rows)
        self.orphans = [t.number for t in self.trials() if t.state == TrialState.RUNNING]

    @property
    def budget(self) -> int:
        """How many trials the study shall have."""
        return self.size.trials

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, uncopied: do not change them."""
        return self.optuna.get_trials(deepcopy=False)

    def own_trials(self) -> list[FrozenTrial]:
        """The trials of this run: without those added from an older one."""
        return [t for t in self.trials() if MARK not in t.user_attrs]

    @property
    def seconds(self) -> float:
        """What the ended trials took."""
        return sum(t.user_attrs.get("seconds", 0.0) for t in self.own_trials())

    def counts(self) -> Counter[TrialState]:
        """Own trials by state."""
        return Counter(t.state for t in self.own_trials())

    @property
    def given_up(self) -> bool:
        """So many trials failed that the method itself must be at fault."""
        return self._gives_up(self.counts())

    def _gives_up(self, counts: Counter[TrialState]) -> bool:
        return counts[TrialState.FAIL] > max(REISSUES, self.budget)

    @property
    def open(self) -> int:
        """How many trials are still to be asked for."""
        counts = self.counts()
        if self._gives_up(counts):
            return 0
        return max(0, self.budget - sum(counts[state] for state in COUNTED))

    @property
    def busy(self) -> bool:
        return self.counts()[TrialState.RUNNING] > 0

    def issue(self) -> Issue:
        """The next trial: an interrupted one first, else a new one. Draws depend on the number alone.

        The first points are queued one by one: a driver killed between queueing and asking leaves a
        WAITING trial, which is the next to be asked for.
        """
        if self.orphans:
            return self._issued(self.trials()[self.orphans.pop(0)])
        own = self.own_trials()
        waiting = [index for index, t in enumerate(own) if t.state == TrialState.WAITING]
        number = waiting[0] if waiting else len(own)
        if not waiting and number < len(self.firsts):
            self.optuna.enqueue_trial(self.firsts[number])
        self.optuna.sampler = self._sampler(number)
        asked = self.optuna.ask(self.distributions)
        return self._issued(self.trials()[asked.number])

    def _sampler(self, number: int) -> BaseSampler:
        """For the trial that is number ``number`` of this run: those added from an older one do not count."""
        config = self.experiment.config
        return make_sampler(config.sampler, config.search_seed, self.key.name, number, list(self.distributions))

    def finish_drawing(self) -> list[int]:
        """Draw what a trial lacks whose driver was killed while it asked; the numbers of those trials.

        Drawn anew as a whole, on a copy of the trials as they were then: the values are those that the ask would
        have given. Only before anything else of the study has changed.
        """
        cut = []
        for number, trial in enumerate(self.own_trials()):
            if trial.state != TrialState.RUNNING or len(trial.params) == len(self.distributions):
                continue
            cut.append(trial.number)
            others = [t for t in self.trials() if t.number != trial.number]
            copy = optuna.create_study(direction="maximize", sampler=self._sampler(number))
            copy.add_trials(others)
            if queued := queued_params(trial):
                copy.enqueue_trial(queued)
            drawn = copy.ask(self.distributions).params
            for name, distribution in self.distributions.items():
                if name not in trial.params:
                    set_param(self.optuna, trial, name, drawn[name], distribution)
        return cut

    def _issued(self, trial: FrozenTrial) -> Issue:
        return Issue(self.key, trial.number, dict(trial.params))

    def _set(self, number: int, name: str, value: object) -> None:
        set_attr(self.optuna, self.trials()[number], name, value)

    def report(self, number: int, history: list[Epoch]) -> int:
        """Fill in the validation accuracies that the study misses, also those a killed driver missed; how many."""
        trial = self.trials()[number]
        missing = [row for row in history if row["epoch"] not in trial.intermediate_values]
        for row in missing:
            set_report(self.optuna, trial, int(row["epoch"]), row["val_accuracy"])
        return len(missing)

    def stops(self, number: int) -> bool:
        """Whether the pruner ends the trial here; what it decides is kept before it is acted on."""
        trial = self.trials()[number]
        if "pruned" not in trial.user_attrs and self.pruner.prune(self.optuna, trial):
            self._set(number, "pruned", trial.last_step)
        return self.pruning_decided(number)

    def pruning_decided(self, number: int) -> bool:
        """Whether the pruner has ended the trial, now or under a driver that died since."""
        return "pruned" in self.trials()[number].user_attrs

    def prune(self, number: int, seconds: float) -> None:
        """PRUNED, with all its reports."""
        self._set(number, "seconds", seconds)
        self.optuna.tell(number, state=TrialState.PRUNED)

    def complete(self, number: int, value: float, seconds: float) -> None:
        """COMPLETE with the best validation accuracy (%)."""
        self._set(number, "seconds", seconds)
        self.optuna.tell(number, value)

    def fail(self, number: int, reason: str, seconds: float = 0.0) -> None:
        """FAIL, with its reason: the method's own fault, or an infrastructure that failed too often."""
        self._set(number, "seconds", seconds)
        self._set(number, "reason", reason)
        self.optuna.tell(number, state=TrialState.FAIL)

    def reissue(self, number: int, reason: str) -> bool:
        """Put a trial back that the infrastructure lost; False where it was lost too often at one epoch.

        A trial that gets on between its losses is unlucky; one that dies at the same epoch again and
        again kills its workers itself (a native crash, the kernel's out-of-memory killer).
        """
        trial = self.trials()[number]
        attrs, epoch = trial.user_attrs, len(trial.intermediate_values)
        here = attrs.get("lost_here", 0) + 1 if attrs.get("lost_at") == epoch else 1
        self._set(number, "reissued", attrs.get("reissued", 0) + 1)
        self._set(number, "lost", reason)
        self._set(number, "lost_at", epoch)
        self._set(number, "lost_here", here)
        if here > REISSUES:
            return False
        self.orphans.append(number)
        return True

    def ended(self, number: int) -> bool:
        """Whether a trial is COMPLETE, PRUNED or FAIL."""
        return self.trials()[number].state.is_finished()

    def best(self) -> FrozenTrial | None:
        """The trial of full length with the best validation accuracy, else the best one stopped early.

        The earliest of equals.
        """
        done = [t for t in self.own_trials() if t.state == TrialState.COMPLETE]
        stopped = [t for t in self.own_trials() if t.state == TrialState.PRUNED and t.intermediate_values]
        return max(done or stopped, key=lambda t: (accuracy_of(t), -t.number), default=None)


class Studies:
    """The studies of all studies, in one storage; deals out trials evenly over the studies."""

    def __init__(self, experiment: Experiment, storage: BaseStorage, run: RunDir | None = None) -> None:
        """``run``: where the budget may have been grown."""
        self.experiment = experiment
        self.budget = Budget(run, experiment.config.trials)
        known = set(optuna.get_all_study_names(storage))
        self.by_name: dict[str, OptunaStudy] = {}
        for study in experiment.studies:
            name = f"{experiment.name}/{study.name}"
            if name in known:  # create_study would write into the journal even then
                found = optuna.load_study(study_name=name, storage=storage)
            else:
                found = optuna.create_study(study_name=name, storage=storage, direction="maximize")
            self.by_name[study.name] = OptunaStudy(study, found, experiment, self.budget)

    def next(self) -> Issue | None:
        """The next trial to run, None where there is none at the moment."""
        for study in self.by_name.values():
            if study.orphans:
                return study.issue()
        open_studies = [study for study in self.by_name.values() if study.open]
        if not open_studies:
            return None
        return min(open_studies, key=lambda study: len(study.own_trials())).issue()

    @property
    def full(self) -> bool:
        """Every study has as many finished trials as asked."""
        return self.finished and not any(study.given_up for study in self.by_name.values())

    @property
    def finished(self) -> bool:
        """Every study has its budget, or has been given up; nothing runs that could need a successor."""
        return not any(study.open or study.busy for study in self.by_name.values())
