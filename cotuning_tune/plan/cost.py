"""The arithmetic of a plan: counts, seconds and bytes of every study, and their sums. Measures nothing."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cotuning_tune.data import TaskConfig
from cotuning_tune.experiment import Experiment, Study
from cotuning_tune.hyper import build
from cotuning_tune.plan.concurrency import ConcurrencyPlan
from cotuning_tune.plan.inventory import Inventory, Parts, cache_bytes
from cotuning_tune.plan.speeds import Footprint, Speed
from cotuning_tune.training import TrainConfig

CROPS = {"centre": 1, "ten": 10}
# Of a run beside its trainings, in starts of a process: the driver, Ray's own, the workers of both stages, the report;
# and of each training, which Ray issues and hears of. By the run of search_spaces/tiny.toml.
STARTS, STARTS_EACH = 6.0, 0.015
COUNTING = ("epochs", "iterations", "interval", "batch_size")


@dataclass(frozen=True)
class StudyCost:
    """One study: what a trial, a seed of the retraining and the method's set-up cost, in seconds (0: no speed).

    ``batches``: steps of a pass over the training split, of ``batch`` images each. ``steps``: of a whole training.
    ``rows``: epochs or intervals; ``validations``: of a training; ``saves``: how many times a trial writes its whole
    state, before its end.
    ``best``: whether a retraining may keep weights of an epoch before its last one.
    ``tested``: images that go through the network in a test.
    """

    study: Study
    parts: Parts
    batch: int
    batches: int
    steps: int
    rows: int
    validations: int
    tested: int
    saves: int
    best: bool
    trial_s: float = 0.0
    seed_s: float = 0.0
    setup_s: float = 0.0

    @property
    def trained(self) -> int:
        """Images that go forward and back in one training."""
        return self.steps * self.batch

    @property
    def validated(self) -> int:
        """Images that go forward for the validations of one training."""
        return self.validations * self.parts.val


@dataclass(frozen=True)
class Plan:
    """The cost of an experiment; ``speeds`` is empty where nothing was measured or given.

    ``process_s``: seconds until a process has started and imported what trains (0: not measured).
    """

    experiment: Experiment
    inventories: Mapping[str, Inventory]
    studies: list[StudyCost]
    speeds: Mapping[str, Speed]
    footprints: Mapping[str, Footprint]
    concurrency: ConcurrencyPlan
    notes: list[str] = dataclasses.field(default_factory=list)
    process_s: float = 0.0

    @property
    def trials(self) -> int:
        """Trials of all studies, in all the searches that share them out."""
        return len(self.studies) * self.experiment.trials * self.experiment.searches

    @property
    def searched(self) -> int:
        """Trainings of a study: its trials on each of their validation splits, and the confirmations."""
        e = self.experiment
        return (e.trials * e.config.val_splits + e.confirmations) * e.searches

    @property
    def setups(self) -> int:
        """Set-ups of a study: one for each validation split that it is trained on."""
        e = self.experiment
        return (e.config.val_splits + bool(e.confirmations)) * e.searches

    @property
    def retrained(self) -> int:
        """Trainings of a study's choices, a seed each."""
        return len(self.experiment.seeds) * self.experiment.searches

    @property
    def seeds(self) -> int:
        """Trainings of the retraining."""
        return len(self.studies) * self.retrained

    @property
    def learners(self) -> list[str]:
        """The methods; where backbones have studies of their own, each method with each of them."""
        return list(dict.fromkeys(cost.study.learner for cost in self.studies))

    def of(self, kind: str) -> list[StudyCost]:
        return [cost for cost in self.studies if cost.study.learner == kind]

    def search_s(self, studies: Iterable[StudyCost]) -> float:
        """Trial-seconds of the search of these studies, the set-ups among them."""
        return sum(c.trial_s * self.searched + c.setup_s * self.setups for c in studies)

    def retrain_s(self, studies: Iterable[StudyCost]) -> float:
        """Trial-seconds of the retraining and the tests of these studies."""
        return sum(c.seed_s * self.retrained for c in studies)

    @property
    def overhead_s(self) -> float:
        """Seconds that a run takes beside its trainings: those of a small one are hardly anything else."""
        trainings = len(self.studies) * (self.searched + self.retrained)
        return self.process_s * (STARTS + STARTS_EACH * trainings)

    @property
    def wall_s(self) -> float:
        """Seconds with that many trials at a time: two stages, neither shorter than its longest training."""
        stages = (
            (self.search_s(self.studies), max(c.trial_s + c.setup_s for c in self.studies)),
            (self.retrain_s(self.studies), max(c.seed_s for c in self.studies)),
        )
        return self.overhead_s + sum(max(total / self.concurrency.trials, longest) for total, longest in stages)

    @property
    def images(self) -> tuple[int, int]:
        """Images that go forward and back, and forward alone, in search, retraining and tests."""
        trainings, seeds = self.searched, self.retrained
        trained = sum(c.trained * (trainings + seeds) for c in self.studies)
        return trained, sum(c.validated * (trainings + seeds) + c.tested * seeds for c in self.studies)

    @property
    def rows(self) -> tuple[int, int]:
        """Epochs (or intervals) of the search and of the retraining."""
        every = sum(c.rows for c in self.studies)
        return every * self.searched, every * self.retrained

    @property
    def cache(self) -> int:
        """Bytes of decoded images, each data set once."""
        return sum(cache_bytes(self.experiment, inventory) for inventory in self.inventories.values())

    def footprint(self, cost: StudyCost) -> Footprint:
        """What a training of a study leaves on disk, by the size of its training split."""
        return self.footprints[cost.study.learner].at(cost.parts.train)

    @property
    def noun(self) -> str:
        """What the tasks consist of, for people."""
        return " and ".join(dict.fromkeys(inventory.kind.noun for inventory in self.inventories.values()))

    @property
    def running(self) -> int:
        """Bytes of the states of running trainings at most: the newest and the one before, with the best weights."""
        largest = max(min(2, c.saves + 1) * self._state(c) for c in self.studies)
        return largest * min(self.concurrency.trials, self.trials)

    def _state(self, cost: StudyCost) -> int:
        """Bytes of a state of a retraining at most: it may hold weights of an epoch before."""
        found = self.footprint(cost)
        return found.state + found.model * cost.best

    @property
    def models(self) -> int:
        """Bytes of the models kept in the end: one per study and seed."""
        return sum(self.footprint(c).model for c in self.studies) * self.retrained

    @property
    def written(self) -> int:
        """Bytes written as states in all: by time, and at the end of each retraining."""
        counts = [(c, c.saves * self.searched, (c.saves + 1) * self.retrained) for c in self.studies]
        return sum(self.footprint(c).state * trials + self._state(c) * seeds for c, trials, seeds in counts)

    @property
    def memory(self) -> int:
        """Bytes of the largest trial; 0: not measured."""
        return max((speed.memory_bytes for speed in self.speeds.values()), default=0)


def _cost(experiment: Experiment, study: Study, parts: Parts, speed: Speed | None) -> StudyCost:
    spec = experiment.spec(study, {}, 0)
    train = build(TrainConfig, spec.train, "train")
    batch, batches = train.batch(parts.train), train.batches(parts.train)
    rows, every = train.rows(batches), experiment.resources.state_every
    counts = StudyCost(
        study=study,
        parts=parts,
        batch=batch,
        batches=batches,
        steps=train.steps(batches),
        rows=rows,
        validations=rows if spec.epoch == "best" or experiment.validates_each else 1,
        tested=parts.test * CROPS[experiment.config.test_crops],
        saves=rows - 1,
        best=spec.epoch == "best",
    )
    if speed is None:
        return counts
    training = counts.trained / speed.batch * speed.step_s + counts.validated * speed.image_s
    between = max(1, int(every / (training / rows)))  # epochs that end within that time
    counts = dataclasses.replace(counts, saves=(rows - 1) // between)
    trial_s = speed.start_s + training + counts.saves * speed.keep_s
    setup_s = 0.0
    if speed.setup_s:
        setup_s = speed.setup_s * (parts.train + parts.val) / speed.setup_images
    return dataclasses.replace(
        counts,
        trial_s=trial_s,
        seed_s=trial_s + speed.keep_s + speed.start_s + counts.tested * speed.image_s,
        setup_s=setup_s,
    )


def _notes(experiment: Experiment, inventories: Mapping[str, Inventory]) -> list[str]:
    trains = experiment.trains or {"": experiment.train}
    notes = [
        f"train.{key} is searched{f' with {name}' if name else ''}: planned with {train[key].first}"
        for name, train in trains.items()
        for key in COUNTING
        if train[key].search is not None
    ]
    notes += [
        f"{key.replace('/', '.')} is searched: planned with the dearest, an upper bound"
        for key, parameter in experiment.placed.items()
        if parameter.search is not None
    ]
    if experiment.config.pruner != "none":
        notes.append(f"pruner = {experiment.config.pruner}: the times are those without stopping, an upper bound")
    for inventory in inventories.values():
        if inventory.guessed:
            notes.append(
                f"{inventory.task}: the test split is not opened; its size is assumed to be the training split's"
            )
        if inventory.missing:
            notes.append(f"{inventory.task}: sizes from published counts, classes taken for equally large")
    return notes


def _within_hours(
    experiment: Experiment, studies: Iterable[StudyCost], concurrency: ConcurrencyPlan
) -> tuple[Experiment, list[str]]:
    """The experiment with about as many trials as its hours give, and what is to be said of that."""
    c = experiment.config
    if not c.hours:
        return experiment, []
    seconds = sum(cost.trial_s for cost in studies) * c.val_splits / concurrency.trials  # of a trial for each study
    if seconds:
        trials = min(math.ceil(3600 * c.hours / seconds), c.trials or sys.maxsize)
        note = f"experiment.hours = {c.hours:g}: time for about {trials} trial(s) per study, planned with as many"
    else:
        trials = c.trials or 1
        note = f"experiment.hours = {c.hours:g}: without a speed planned with {trials} trial(s) per study"
    return dataclasses.replace(experiment, config=dataclasses.replace(c, trials=trials)), [note]


def make_plan(
    experiment: Experiment,
    inventories: Mapping[str, Inventory],
    speeds: Mapping[str, Speed],
    footprints: Mapping[str, Footprint],
    concurrency: ConcurrencyPlan,
    process_s: float = 0.0,
) -> Plan:
    """The plan of an experiment from what was counted and measured."""
    config = build(TaskConfig, experiment.task, "task")
    parts = {(t, rate): inventories[t].at(rate, config) for t in inventories for rate in experiment.config.rates}
    studies = [_cost(experiment, c, parts[c.task, c.rate], speeds.get(c.learner)) for c in experiment.studies]
    planned, told = _within_hours(experiment, studies, concurrency)
    notes = [*told, *_notes(planned, inventories)]
    return Plan(planned, inventories, studies, speeds, footprints, concurrency, notes, process_s)
