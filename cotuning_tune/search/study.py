"""The studies of a run: which trial comes next, what has been reported, how each ended.

Knows Optuna and nothing of Ray. All that a resumed search needs to know stands here: trials that are
RUNNING and that no living driver owns are handed out first, then new ones are asked for until the study has its
budget. A trial that failed by its own fault has used its draw up. Then the best are confirmed on another split.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.experiment import Experiment, Study
from cotuning_tune.run.budget import Budget
from cotuning_tune.run.choice import TOP, choose, to_confirm
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.records import Confirmation, Epoch, TrialRow, Values
from cotuning_tune.search.pruner import make_pruner
from cotuning_tune.search.samplers import make_sampler
from cotuning_tune.search.space import distributions, first_points
from cotuning_tune.search.stored_trials import queued_params, set_attr, set_param, set_report

REISSUES = 3
MARK = "from"  # names the old run's trial that an added one was copied from
CONFIRMS = "confirms"  # numbers the trial that is trained once more on another validation split
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)


@dataclass(frozen=True)
class Issue:
    """A trial handed out: study, number, values of the searched parameters, the validation splits to train on."""

    study: Study
    number: int
    values: Values
    splits: tuple[int, ...] = (0,)


def accuracy_of(trial: FrozenTrial) -> float:
    """The validation accuracy (%) of the epoch that a trial kept, whether it ended or was stopped; -inf of none."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return trial.value
    return float(trial.user_attrs.get("accuracy", -math.inf))


def values_of(trial: FrozenTrial) -> Values:
    """The values of a trial's parameters; those that switch a method off may lie outside of their ranges."""
    return {**trial.params, **trial.user_attrs.get("off", {})}


def row_of(trial: FrozenTrial) -> TrialRow:
    """A trial as ``study.json`` has it."""
    attrs, accuracy = trial.user_attrs, accuracy_of(trial)
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "accuracy": accuracy if math.isfinite(accuracy) else None,
        "loss": attrs.get("loss"),
        "share": attrs.get("share"),
        "fixed": attrs.get("fixed", ""),
        "values": values_of(trial),
        "epochs": len(trial.intermediate_values),
        "seconds": attrs.get("seconds", 0.0),
        "reason": attrs.get("reason", ""),
        "reissued": attrs.get("reissued", 0),
    }


def confirmation_of(trial: FrozenTrial) -> Confirmation:
    """A confirming trial as ``study.json`` has it."""
    row = row_of(trial)
    return {
        "confirms": trial.user_attrs[CONFIRMS],
        "state": row["state"],
        "accuracy": row["accuracy"] if row["state"] == "COMPLETE" else None,
        "epochs": row["epochs"],
        "seconds": row["seconds"],
        "reason": row["reason"],
    }


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
        self.firsts = first_points(space) if self.experiment.config.aim == "model" else []
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
        """The drawn trials of this run: without those added from an older one, and those that confirm."""
        return [t for t in self.trials() if MARK not in t.user_attrs and CONFIRMS not in t.user_attrs]

    def confirming(self) -> list[FrozenTrial]:
        """The trainings of a chosen few on another validation split."""
        return [t for t in self.trials() if CONFIRMS in t.user_attrs]

    def trained(self) -> list[FrozenTrial]:
        """All trials that this run trains: drawn and confirming ones."""
        return [t for t in self.trials() if MARK not in t.user_attrs]

    @property
    def seconds(self) -> float:
        """What the ended trials took."""
        return sum(t.user_attrs.get("seconds", 0.0) for t in self.trained())

    def counts(self) -> Counter[TrialState]:
        """Own trials by state."""
        return Counter(t.state for t in self.own_trials())

    @property
    def open(self) -> int:
        """How many trials are still to be drawn."""
        counts = self.counts()
        return max(0, self.budget - sum(counts[state] for state in COUNTED))

    @property
    def unconfirmed(self) -> list[int]:
        """The trials that are still to be trained once more; none before the last drawn trial has ended."""
        own = self.own_trials()
        if self.experiment.rule != "confirm" or self.open or any(not t.state.is_finished() for t in own):
            return []
        known = {t.user_attrs[CONFIRMS] for t in self.confirming() if t.state != TrialState.WAITING}
        return [number for number in to_confirm([row_of(t) for t in own]) if number not in known]

    @property
    def total(self) -> int:
        """Trials and confirmations in all, as far as is known."""
        asked = min(TOP, self.budget) if self.experiment.rule == "confirm" else 0
        if not self.open and not self.busy:
            asked = len(self.confirming()) + len(self.unconfirmed)
        return self.budget + asked

    @property
    def busy(self) -> bool:
        return any(t.state == TrialState.RUNNING for t in self.trained())

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
        queued = any(t.state == TrialState.WAITING for t in self.trials())
        if not queued and not self.open:
            self._queue_confirmation(self.unconfirmed[0])
        elif not queued and number < len(self.firsts):
            first = self.firsts[number]
            attrs = {"fixed": first.name, **({"off": first.off} if first.off else {})}
            self.optuna.enqueue_trial(first.values, user_attrs=attrs)
        self.optuna.sampler = self._sampler(number)
        asked = self.optuna.ask(self.distributions)
        return self._issued(self.trials()[asked.number])

    def _queue_confirmation(self, number: int) -> None:
        trial = self.trials()[number]
        attrs: Values = {name: trial.user_attrs[name] for name in ("fixed", "off") if name in trial.user_attrs}
        self.optuna.enqueue_trial(trial.params, user_attrs={**attrs, CONFIRMS: number})

    def _sampler(self, number: int) -> BaseSampler:
        """For the trial that is number ``number`` of this run: those added from an older one do not count.

        Of every study trial ``number`` takes the common point of that number, unless it is a fixed one.
        """
        config = self.experiment.config
        order = self.experiment.order(self.key.method)
        return make_sampler(config.sampler, config.search_seed, self.key.name, number, order)

    def finish_drawing(self) -> list[int]:
        """Draw what a trial lacks whose driver was killed while it asked; the numbers of those trials.

        Drawn anew as a whole, on a copy of the trials as they were then: the values are those that the ask would
        have given. Only before anything else of the study has changed.
        """
        cut, numbers = [], {t.number: index for index, t in enumerate(self.own_trials())}
        for trial in self.trained():
            number = numbers.get(trial.number, len(numbers))
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
        config = self.experiment.config
        splits = (config.val_splits,) if CONFIRMS in trial.user_attrs else tuple(range(config.val_splits))
        return Issue(self.key, trial.number, values_of(trial), splits)

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
        if (
            CONFIRMS not in trial.user_attrs
            and "pruned" not in trial.user_attrs
            and self.pruner.prune(self.optuna, trial)
        ):
            self._set(number, "pruned", trial.last_step)
        return self.pruning_decided(number)

    def pruning_decided(self, number: int) -> bool:
        """Whether the pruner has ended the trial, now or under a driver that died since."""
        return "pruned" in self.trials()[number].user_attrs

    def prune(self, number: int, **facts: float | None) -> None:
        """PRUNED, with all its reports; ``facts``: as ``complete`` has them."""
        self._set_all(number, facts)
        self.optuna.tell(number, state=TrialState.PRUNED)

    def complete(self, number: int, accuracy: float, **facts: float | None) -> None:
        """COMPLETE with the validation accuracy (%) of the kept epoch; ``facts``: ``seconds``, ``loss``, ``share``."""
        self._set_all(number, {**facts, "accuracy": accuracy})
        self.optuna.tell(number, accuracy)

    def _set_all(self, number: int, facts: Mapping[str, object]) -> None:
        for name, value in facts.items():
            if value is not None:
                self._set(number, name, value)

    def fail(self, number: int, reason: str, seconds: float = 0.0) -> None:
        """FAIL, with its reason: the method's own fault, or an infrastructure that failed too often."""
        self._set_all(number, {"seconds": seconds, "reason": reason})
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

    def rows(self) -> list[TrialRow]:
        """The drawn trials as ``study.json`` has them."""
        return [row_of(t) for t in self.own_trials()]

    def best(self) -> TrialRow | None:
        """The most accurate trial so far: of full length, else stopped early; the earliest of equals."""
        return choose(self.rows(), [], "max")


class Studies:
    """The studies of all studies, in one storage; deals out trials evenly over the studies."""

    def __init__(self, experiment: Experiment, storage: BaseStorage, run: RunDir | None = None) -> None:
        """``run``: where the budget may have been grown."""
        self.experiment = experiment
        self.budget = Budget(run, experiment.trials)
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
        open_studies = [study for study in self.by_name.values() if study.open or study.unconfirmed]
        if not open_studies:
            return None
        return min(open_studies, key=lambda study: len(study.own_trials())).issue()

    @property
    def full(self) -> bool:
        """Every study has its budget, and a trial to choose."""
        return self.finished and all(study.best() for study in self.by_name.values())

    @property
    def finished(self) -> bool:
        """Every study has its budget and its best confirmed; nothing runs that could need a successor."""
        return not any(study.open or study.busy or study.unconfirmed for study in self.by_name.values())

    @property
    def total(self) -> int:
        """Trials and confirmations of all studies."""
        return sum(study.total for study in self.by_name.values())
