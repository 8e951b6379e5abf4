"""The studies of a run: which trial comes next, what has been reported, how each ended.

Knows Optuna and nothing of Ray. All that a resumed search needs to know stands here: trials that are
RUNNING and that this driver has not issued are handed out first, then new ones are drawn until the study has its
budget. A trial that failed by its own fault has used its draw up. Then the best are confirmed on another split.
"""

import logging
import math
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.base.errors import Fenced
from cotuning_tune.cluster.driver import REISSUES, STARTS
from cotuning_tune.experiment import Experiment, Study
from cotuning_tune.runs.budget import Budget
from cotuning_tune.runs.choice import TOP, choose, to_confirm
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import studies_prefix
from cotuning_tune.runs.ledger import Head
from cotuning_tune.runs.records import Epoch, TrialResult, TrialRow, Values, scores_of
from cotuning_tune.search.door import Door
from cotuning_tune.search.heads import LEDGER
from cotuning_tune.search.pruner import make_pruner
from cotuning_tune.search.rows import CONFIRMS, KINDS, LOSSES, RESULT, facts_of, row_of, values_of
from cotuning_tune.search.samplers import make_sampler
from cotuning_tune.search.space import distributions, first_points
from cotuning_tune.search.stored import MARK, StoredStudy, direction_of, find_trials

log = logging.getLogger(__name__)
OWNER = "driver"  # of the first study: the driver that writes them all


@dataclass(frozen=True)
class Issue:
    """A trial handed out: study, number, values of the searched parameters, the validation splits to train on.

    ``params`` and ``attrs``: as its study has them, for whoever has to write the study again.
    """

    study: Study
    number: int
    values: Values
    splits: tuple[int, ...] = (0,)
    params: Values = field(default_factory=dict)
    attrs: Values = field(default_factory=dict)


class OptunaStudy:
    """One study, and what this driver knows of it: tallies, kept up at each event, so that none counts all trials.

    ``orphans``: running trials that nobody trains, whoever began them; they are issued again.
    """

    def __init__(self, key: Study, stored: StoredStudy, experiment: Experiment, size: Budget) -> None:
        self.key, self.stored, self.experiment, self.size = key, stored, experiment, size
        self.metric = experiment.metric(key.task)
        space = experiment.space(key.method, key.backbone)
        self.distributions = distributions(space)
        self.firsts = first_points(space) if experiment.config.aim == "model" else []
        self.pruner = make_pruner(experiment.config.pruner, experiment.rows(key.backbone))
        self._issued: set[int] = set()
        self._tally()

    def _tally(self) -> None:
        """Count all trials: once at the start, and where another process has added some."""
        self._own: list[int] = []
        self._again: list[int] = []
        self._states: Counter[TrialState] = Counter()
        self._running: set[int] = set()
        self._best: TrialRow | None = None
        self._to_confirm: tuple[int, list[int]] = (-1, [])
        self.orphans: list[int] = []
        for trial in self.trials():
            self._added(trial)
            if trial.number in self._running and trial.number not in self._issued:
                self.orphans.append(trial.number)

    def _added(self, trial: FrozenTrial) -> None:
        if MARK in trial.user_attrs or self.is_strange(trial):
            return
        own = CONFIRMS not in trial.user_attrs
        (self._own if own else self._again).append(trial.number)
        self.size.reached(len(self._own))
        if trial.state == TrialState.RUNNING:
            self._running.add(trial.number)
            self._states[trial.state] += own
        else:
            self._ended(trial)

    def _ended(self, trial: FrozenTrial) -> None:
        """A trial has got its final state."""
        if CONFIRMS in trial.user_attrs:
            return
        self._states[trial.state] += 1
        self._best = choose([row for row in (self._best, row_of(trial)) if row], [], "max", self.metric)

    def is_strange(self, trial: FrozenTrial) -> bool:
        """Whether another program has begun it, without values for all parameters: it is left alone."""
        return trial.state == TrialState.RUNNING and set(trial.params) != set(self.distributions)

    @property
    def budget(self) -> int:
        """How many trials the study shall have."""
        return self.size.trials

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, uncopied: do not change them."""
        return self.stored.trials()

    def own_trials(self) -> list[FrozenTrial]:
        """The drawn trials of this run: without those added from an older one, and those that confirm."""
        return [self.stored.trial(number) for number in self._own]

    def confirming(self) -> list[FrozenTrial]:
        """The trainings of a chosen few on another validation split."""
        return [self.stored.trial(number) for number in self._again]

    def trained(self) -> list[FrozenTrial]:
        """All trials that this run trains: drawn and confirming ones."""
        return [self.stored.trial(number) for number in sorted([*self._own, *self._again])]

    @property
    def drawn(self) -> int:
        """How many trials have been drawn."""
        return len(self._own)

    @property
    def seconds(self) -> float:
        """What the ended trials took."""
        return math.fsum(row_of(trial)["seconds"] for trial in self.trained())

    def counts(self) -> Counter[TrialState]:
        """Own trials by state."""
        return +self._states

    @property
    def open(self) -> int:
        """How many trials are still to be drawn."""
        return max(0, self.budget - len(self._own))

    @property
    def unconfirmed(self) -> list[int]:
        """The trials that are still to be trained once more; none before the last drawn trial has ended."""
        if self.experiment.rule != "confirm" or self.open or self._states[TrialState.RUNNING]:
            return []
        if self._to_confirm[0] != len(self._own):
            self._to_confirm = len(self._own), to_confirm(self.rows(), self.metric)
        known = {trial.user_attrs[CONFIRMS] for trial in self.confirming()}
        return [number for number in self._to_confirm[1] if number not in known]

    @property
    def total(self) -> int:
        """Trials and confirmations in all, as far as is known."""
        known = len(self._again) + len(self.unconfirmed)  # an extended study may confirm others than before
        if self.open or self.busy:
            known = max(known, min(TOP, self.budget) if self.experiment.rule == "confirm" else 0)
        return self.budget + known

    @property
    def busy(self) -> bool:
        """Whether a trial of this run has not ended."""
        return bool(self._running)

    def issue(self) -> Issue:
        """The next trial: an interrupted one first, else a new one. Draws depend on the number alone."""
        if self.orphans:
            return self._issue(self.orphans.pop(0))
        params: Values | None = None
        attrs: Values = {}
        number = len(self._own)
        if not self.open:
            confirmed = self.stored.trial(self.unconfirmed[0])
            attrs = {name: confirmed.user_attrs[name] for name in KINDS if name in confirmed.user_attrs}
            params, attrs = confirmed.params, {**attrs, CONFIRMS: confirmed.number}
        elif number < len(self.firsts):
            first = self.firsts[number]
            params, attrs = first.values, {"fixed": first.name, **({"off": first.off} if first.off else {})}
        known = self.stored.count
        drawn = self.stored.draw(self._sampler(number), self.distributions, params, attrs)
        if drawn == known:
            self._added(self.stored.trial(drawn))
        else:
            self._issued.add(drawn)
            self._tally()
        return self._issue(drawn)

    def _sampler(self, number: int) -> BaseSampler:
        """For the trial that is number ``number`` of this run: those added from an older one do not count.

        Of every study trial ``number`` takes the common point of that number, unless it is a fixed one.
        """
        config = self.experiment.config
        order = self.experiment.order(self.key.method)
        return make_sampler(config.sampler, config.search_seed, self.key.name, number, order)

    def _issue(self, number: int) -> Issue:
        config, trial = self.experiment.config, self.stored.trial(number)
        self._issued.add(number)
        attrs: Values = {
            name: trial.user_attrs[name] for name in ("fixed", "off", CONFIRMS) if name in trial.user_attrs
        }
        splits = (config.val_splits,) if CONFIRMS in attrs else tuple(range(config.val_splits))
        return Issue(self.key, number, values_of(trial), splits, trial.params, attrs)

    def adopt(self, trial: FrozenTrial) -> int:
        """Add a trial that the storage does not know, or of an older run; its number."""
        number = self.stored.adopt(trial)
        self._tally()
        return number

    def report(self, number: int, history: list[Epoch]) -> None:
        """Fill in the validation scores that the study misses, also those a killed driver missed."""
        known = self.stored.trial(number).intermediate_values
        for step, score in scores_of(history).items():
            if step not in known:
                self.stored.report(number, step, score)

    def stops(self, number: int) -> bool:
        """Whether the pruner ends the trial here; what it decides is kept before it is acted on."""
        trial = self.stored.trial(number)
        if (
            CONFIRMS not in trial.user_attrs
            and "pruned" not in trial.user_attrs
            and self.pruner.prune(self.stored.optuna, trial)
        ):
            self.stored.note(number, "pruned", trial.last_step)
        return self.pruning_decided(number)

    def pruning_decided(self, number: int) -> bool:
        """Whether the pruner has ended the trial, now or under a driver that died since."""
        return "pruned" in self.stored.trial(number).user_attrs

    def end_as(self, number: int, result: TrialResult) -> None:
        """The end of a trial, as its ``result.json`` has it: COMPLETE, PRUNED with all its reports, or FAIL."""
        state = TrialState[result["state"]]
        self.stored.note(number, RESULT, facts_of(result))
        self.stored.end(number, state, result["value"] if state == TrialState.COMPLETE else None)
        self._issued.discard(number)
        if number in self.orphans:
            self.orphans.remove(number)
        self._running.discard(number)
        trial = self.stored.trial(number)
        self._states[TrialState.RUNNING] -= CONFIRMS not in trial.user_attrs
        self._ended(trial)

    def reissue(self, number: int, reason: str, epoch: int, owner: str | None = None) -> bool:
        """Put a trial back that the infrastructure lost; False where it was lost too often at one epoch.

        A trial that gets on between its losses is unlucky; one that dies at the same epoch again and
        again kills its workers itself (a native crash, the kernel's out-of-memory killer). ``epoch``: how many it had
        reported. ``owner``: the token of who
        trained it last (None: not known); a worker that died before it had begun says nothing about the trial.
        """
        trial = self.stored.trial(number)
        losses = trial.user_attrs.get(LOSSES, {})
        before = losses if losses.get("epoch") == epoch else {}
        begun = owner is None or owner != losses.get("owner", "")
        here, starts = before.get("here", 0) + begun, before.get("starts", 0) + (not begun)
        told = {"count": losses.get("count", 0) + 1, "reason": reason, "epoch": epoch, "here": here}
        self.stored.note(number, LOSSES, {**told, "starts": starts, "owner": owner or losses.get("owner", "")})
        if here > REISSUES or starts > STARTS:
            return False
        self.orphans.append(number)
        return True

    def rows(self) -> list[TrialRow]:
        """The drawn trials as ``study.json`` has them."""
        return [row_of(t) for t in self.own_trials()]

    def best(self) -> TrialRow | None:
        """The best trial so far: of full length, else stopped early; the earliest of equals."""
        return self._best


class Studies:
    """All studies of a run, in one storage; deals out trials evenly over them."""

    def __init__(
        self,
        experiment: Experiment,
        storage: BaseStorage | None,
        run: RunDir | None = None,
        *,
        reading: bool = False,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        """``run``: where identity and budget are; ``say`` is told when the storage is away, or the hours are used.

        ``reading``: nothing is written, whatever is done with them; ``storage`` is None where there is none yet.
        """
        self.experiment, self.storage = experiment, storage
        self.budget = Budget(run, experiment.trials, experiment.config.hours, say)
        self._token = secrets.token_hex(8)
        door = Door(storage, say) if storage and not reading else None
        prefix = studies_prefix(run) if run else experiment.name
        self.by_name: dict[str, OptunaStudy] = {}
        for study in experiment.studies:
            name = f"{prefix or experiment.name}/{study.name}"
            found = find_trials(storage, name) if storage and reading else []
            stored = StoredStudy(name, door, found, direction_of(experiment.metric(study.task)))
            self.by_name[study.name] = OptunaStudy(study, stored, experiment, self.budget)
        self._first = next(iter(self.by_name.values())).stored

    def claim(self) -> None:
        """From now on this driver writes the studies, and no former one."""
        self._first.set_attr(OWNER, self._token)

    def check_owner(self) -> None:
        """Raises Fenced where another driver has claimed the studies, from a copy of the run's folder, say."""
        if self._first.attrs().get(OWNER, self._token) != self._token:
            raise Fenced("another driver writes these studies now")

    def keep_ledger_head(self, head: Head) -> None:
        """Keep how far the test ledger goes: a line that is cut off its end shows."""
        self._first.set_attr(LEDGER, head)

    def next(self) -> Issue | None:
        """The next trial to run, None where there is none at the moment."""
        self._settle()  # before trials are confirmed, of which there may be more by now
        for study in self.by_name.values():
            if study.orphans:
                return study.issue()
        open_studies = [study for study in self.by_name.values() if study.open or study.unconfirmed]
        if not open_studies:
            return None
        return min(open_studies, key=lambda study: study.drawn).issue()

    @property
    def full(self) -> bool:
        """Every study has its budget, and a trial to choose."""
        return self.finished and all(study.best() for study in self.by_name.values())

    @property
    def finished(self) -> bool:
        """Every study has its budget and its best confirmed; nothing runs that could need a successor."""
        self._settle()
        return not any(study.open or study.busy or study.unconfirmed for study in self.by_name.values())

    def _settle(self) -> None:
        self.budget.settle(min(study.drawn for study in self.by_name.values()))

    @property
    def total(self) -> int:
        """Trials and confirmations of all studies."""
        return sum(study.total for study in self.by_name.values())
