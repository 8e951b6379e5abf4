"""A study, twice: in memory, where samplers and pruners look, and in the run's storage, which alone is true.

Its driver is the only writer, so nothing is ever read again: a trial costs the storage one call when it is drawn, one a
report and two at its end, however many trials there are. What is written goes to the storage first. A trial appears
there whole, with the values of all its parameters: a driver that is killed while it draws leaves nothing.
"""

import copy
from collections.abc import Callable, Container, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from cotuning_tune.runs.records import Values
from cotuning_tune.scores import Metric
from cotuning_tune.search.door import Door

MARK = "from"  # names the old run's trial that an added one was copied from


class _Memory(InMemoryStorage):
    """Passes on what a pruner notes of a trial in the middle of a study: the rungs of successive halving.

    ``queued``: whether a trial waits with given values; where none does, Optuna need not look through all trials.
    """

    def __init__(self, pass_on: Callable[[int, str, object], None]) -> None:
        super().__init__()
        self._pass_on, self.queued = pass_on, False

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if states == (TrialState.WAITING,) and not self.queued:
            return []
        return super().get_all_trials(study_id, deepcopy, states)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:  # type: ignore[explicit-any]  # as Optuna has it
        self._pass_on(self.get_trial_number_from_id(trial_id), key, value)
        super().set_trial_system_attr(trial_id, key, value)


class StoredStudy:
    """The study called ``name``; made where it is not there. ``door`` None: read once, then held in memory alone."""

    def __init__(
        self,
        name: str,
        door: Door | None,
        trials: list[FrozenTrial],
        direction: StudyDirection = StudyDirection.MAXIMIZE,
    ) -> None:
        """``trials``: what there is of it, where there is no door."""
        self.name, self._door, self.direction = name, door, direction
        self._study_id = door(lambda storage: _made(storage, name, direction)) if door else 0
        self._ids: dict[int, int] = {}
        self._load(trials)

    def _load(self, trials: list[FrozenTrial]) -> None:
        if self._door:
            trials = self._door(lambda storage: storage.get_all_trials(self._study_id, deepcopy=False))
        self._kept = len(trials)
        self._memory = _Memory(self._pass_on)
        self.optuna = optuna.create_study(direction=self.direction, storage=self._memory, study_name=self.name)
        self._memory_id = self._memory.get_study_id_from_name(self.name)
        self.optuna.add_trials([_ours(trial) for trial in trials])

    @property
    def count(self) -> int:
        """How many trials there are."""
        return self._kept

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, uncopied: do not change them."""
        return self.optuna.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """One trial, uncopied."""
        return self._memory.get_trial(self._in_memory(number))

    def _in_memory(self, number: int) -> int:
        return self._memory.get_trial_id_from_study_id_trial_number(self._memory_id, number)

    def _stored(self, number: int) -> int:
        """The storage's own number of a trial, asked for once."""
        if number not in self._ids and self._door:
            self._ids[number] = self._door(
                lambda storage: storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            )
        return self._ids[number]

    def draw(
        self,
        sampler: BaseSampler,
        distributions: dict[str, BaseDistribution],
        params: Values | None = None,
        attrs: Values | None = None,
    ) -> int:
        """A new RUNNING trial; its number. ``params``: its values, where the sampler shall not draw them.

        Where another process has added trials meanwhile the study is read anew, and they are known from then on.
        """
        self._memory.queued = params is not None
        if params is not None:
            self.optuna.enqueue_trial(params, user_attrs=attrs)
        self.optuna.sampler = sampler
        number = self.optuna.ask(distributions).number
        return self._keep(number)

    def adopt(self, trial: FrozenTrial) -> int:
        """Add a trial as it is; its number."""
        number = self.count
        self.optuna.add_trial(trial)
        return self._keep(number)

    def _keep(self, number: int) -> int:
        """Give the storage the newest trial of the memory; its number there."""
        self._kept += 1
        if self._door is None:
            return number
        template = copy.copy(self.trial(number))

        def kept(storage: BaseStorage) -> int | None:
            """The trial of a try whose answer was lost."""
            if len(storage.get_all_trials(self._study_id, deepcopy=False)) <= number:
                return None
            return storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

        made = self._door(lambda storage: storage.create_new_trial(self._study_id, template), kept)
        self._ids[number] = self._door(
            lambda storage: storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        )
        if self._ids[number] != made:  # another process writes here too
            self._ids.clear()
            self._load([])
            number = self._door(lambda storage: storage.get_trial(made)).number
        return number

    def _pass_on(self, number: int, name: str, value: Any) -> None:  # type: ignore[explicit-any]  # as Optuna has it
        if self._door and number < self._kept:  # of a trial that is being drawn it goes along with the whole
            stored = self._stored(number)
            self._door(lambda storage: storage.set_trial_system_attr(stored, name, value))

    def report(self, number: int, step: int, value: float) -> None:
        """A running trial's value at a step."""
        if self._door:
            stored = self._stored(number)
            self._door(lambda storage: storage.set_trial_intermediate_value(stored, step, value))
        self._memory.set_trial_intermediate_value(self._in_memory(number), step, value)

    def note(self, number: int, name: str, value: object) -> None:
        """Set a user attribute of a running trial."""
        if self._door:
            stored = self._stored(number)
            self._door(lambda storage: storage.set_trial_user_attr(stored, name, value))
        self._memory.set_trial_user_attr(self._in_memory(number), name, value)

    def end(self, number: int, state: TrialState, value: float | None = None) -> None:
        """The end of a running trial; one that was stopped early has its last report as its value."""
        trial = self.trial(number)
        if state == TrialState.PRUNED and trial.last_step is not None:
            value = trial.intermediate_values[trial.last_step]
        values = None if value is None else [value]
        if self._door:
            stored = self._stored(number)

            def ended(storage: BaseStorage) -> bool | None:
                return True if storage.get_trial(stored).state == state else None

            self._door(lambda storage: storage.set_trial_state_values(stored, state, values), ended)
        self._memory.set_trial_state_values(self._in_memory(number), state, values)

    def attrs(self) -> Mapping[str, object]:
        """The study's own attributes, as they are in the storage now."""
        return self._door(lambda storage: storage.get_study_user_attrs(self._study_id)) if self._door else {}

    def set_attr(self, name: str, value: object) -> None:
        """Set an attribute of the study itself."""
        if self._door:
            self._door(lambda storage: storage.set_study_user_attr(self._study_id, name, value))


def find_trials(storage: BaseStorage, name: str) -> list[FrozenTrial]:
    """The trials of a study in a storage that is only read; none where it is not there."""
    found = _found(storage, name)
    return [] if found is None else storage.get_all_trials(found, deepcopy=False)


def direction_of(metric: Metric) -> StudyDirection:
    """Optuna's word for which of a metric's values is the better one."""
    return StudyDirection.MAXIMIZE if metric.greater_is_better else StudyDirection.MINIMIZE


def _made(storage: BaseStorage, name: str, direction: StudyDirection) -> int:
    """Looked for first: one that is there is not made, and Optuna's own way would write into a journal even then."""
    found = _found(storage, name)
    return storage.create_new_study([direction], name) if found is None else found


def _found(storage: BaseStorage, name: str) -> int | None:
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        return None


def _ours(trial: FrozenTrial) -> FrozenTrial:
    """A trial as the memory has it: one that another program has queued is never asked for."""
    if trial.state != TrialState.WAITING:
        return trial
    return create_trial(state=TrialState.FAIL, user_attrs={MARK: "queued by another program"})
