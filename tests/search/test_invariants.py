"""What holds of a search whatever happens to its drivers and files, in words in docs/invariants.md.

A machine of hypothesis starts, kills and replaces drivers, loses workers, extends and renames the run, restores old
journals and empties them, and lets the storage blink, in any order. What trains is pretended; studies, searcher, lock
numbers, folders and repair are the product's own.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from cotuning_tune.base.errors import Unfinished
from cotuning_tune.base.files import read_json, write_bytes
from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.experiment import parse
from cotuning_tune.runs import budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import make_identity, settle
from cotuning_tune.runs.records import Epoch, TrialReport, Values
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search import door
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.repair import adopt_lost, repair
from cotuning_tune.search.searcher import StudySearcher
from cotuning_tune.search.storage import mend_journal, open_storage, read_storage
from cotuning_tune.search.study import Studies

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 3
sampler = "{sampler}"
selection = "max"
[train]
epochs = 2
"""
EPOCHS = 2
MOST = 12  # trials a study
EXPERIMENT = parse(TEXT.format(sampler="qmc"), "model")
Key = tuple[str, int]
DEEDS = ("hand out", "trains", "trains", "trains", "trains", "fails", "lost", "dies before", "dies after")
COUNTS: Counter[str] = Counter()


def drawn_undisturbed() -> dict[Key, Values]:
    """The values of each trial of a search that nobody disturbs."""
    studies = Studies(EXPERIMENT, optuna.storages.InMemoryStorage())
    found: dict[Key, Values] = {}
    for name, study in studies.by_name.items():
        study.size._trials = MOST
        for _ in range(MOST):
            issue = study.issue()
            found[name, issue.number] = issue.values
    return found


EXPECTED = drawn_undisturbed()


def accuracy(values: Values, epoch: int) -> float:
    """What a training of these values says: the same wherever and whenever it is done."""
    return 50.0 + epoch + 1000 * cast(float, values["optim/lr"]) % 7


def epochs_of(values: Values, count: int) -> list[Epoch]:
    return [
        {
            "epoch": n,
            "val_score": accuracy(values, n),
            "val_loss": 1.0,
            "train_ce": 1.0,
            "train_loss": 1.0,
            "seconds": 1.0,
        }
        for n in range(1, count + 1)
    ]


class Killed(BaseException):
    """The death of a driver, in the middle of whatever it does."""


class PretendedDriver:
    """A driver with the product's own searcher; ``running``: what its workers train."""

    def __init__(self, run: RunDir, clock: list[int]) -> None:
        number = run.raise_incarnation()
        mend_journal(run.journal)
        self.studies = Studies(EXPERIMENT, open_storage(run), run)
        self.studies.claim()
        repair(run, self.studies)
        driver = Driver(number, Concurrency(1, 0.0, 99), Stream(run), self.studies.check_owner)
        self.searcher = StudySearcher(self.studies, Recorder(run), run, driver)
        self.running: dict[str, tuple[Key, Values]] = {}
        self.clock = clock

    def hand_out(self) -> Key | None:
        self.clock[0] += 1
        tune_id = f"t{self.clock[0]}"
        config = self.searcher.suggest(tune_id)
        if not isinstance(config, dict):
            return None
        folder = Path(cast(str, config["folder"]))
        key = folder.parts[-3], int(folder.name)
        self.running[tune_id] = key, cast(Values, read_json(folder / "config.json")["values"])
        return key


class Search(RuleBasedStateMachine):
    """The world: a run's folder, its living drivers, and what has become true once."""

    copies = Bundle("copies")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="cotuning_tune-model-"))
        self.run = RunDir(self.root / "run")
        make_identity(self.run, "model")
        write_bytes(self.run.experiment_file, TEXT.format(sampler="qmc").encode())
        self.trials, self.renamed, self.clock = 3, 0, [0]
        self.driver: PretendedDriver | None = None
        self.former: list[PretendedDriver] = []
        self.epochs: dict[Key, int] = {}  # on disk, whoever drives
        self.trained: dict[Key, list[int]] = {}  # every epoch that was ever kept
        self.ended: dict[Key, tuple[str, float | None]] = {}

    def teardown(self) -> None:
        COUNTS.update(ended=len(self.ended))
        shutil.rmtree(self.root, ignore_errors=True)

    def _report(self, key: Key, values: Values, *, done: bool, failed: str = "") -> TrialReport:
        history = epochs_of(values, self.epochs.get(key, 0))
        return {
            "history": history,
            "val_score": history[-1]["val_score"] if history else 0.0,
            "val_loss": 1.0,
            "epochs": EPOCHS,
            "completed": done and not failed,
            "failed": failed,
            "own": bool(failed),
            "fenced": False,
            "changed": "",
            "ready": False,
            "tested": [],
            "notices": [],
            "done": done,
        }

    @initialize()
    def begin(self) -> None:
        self.start()

    @rule()
    def start(self) -> None:
        """A driver starts; one that lives is a former one from then on."""
        if self.driver:
            self.former.append(self.driver)
        settle(self.run, lambda line: None)
        self.driver = PretendedDriver(self.run, self.clock)

    @precondition(lambda self: self.driver)
    @rule()
    def kill(self) -> None:
        COUNTS["kill"] += 1
        self.driver = None

    @rule(deeds=st.lists(st.sampled_from(DEEDS), min_size=10, max_size=40))
    def work(self, deeds: list[str]) -> None:
        """Trials are handed out, trained, lost and ended, by a driver that starts where none lives."""
        for deed in deeds:
            COUNTS[deed] += 1
            if not self.driver:
                self.start()
            assert self.driver
            if deed == "hand out" or not self.driver.running:
                self._hand_out(self.driver)
            else:
                self._step(self.driver, deed)

    def _hand_out(self, driver: PretendedDriver) -> None:
        key = driver.hand_out() if len(driver.running) < 2 else None
        if key is None:
            return
        assert key not in self.ended, "an ended trial is handed out again"
        assert driver.running[f"t{self.clock[0]}"][1] == EXPECTED[key]

    def _step(self, driver: PretendedDriver, deed: str) -> None:
        """A worker ends an epoch, fails or is lost; the driver may die around the study's write."""
        tune_id = next(iter(driver.running))
        key, values = driver.running[tune_id]
        if deed in ("lost", "fails"):
            self._end_badly(driver, deed, tune_id, key, values)
            return
        if self.epochs.get(key, 0) < EPOCHS:
            self.epochs[key] = self.epochs.get(key, 0) + 1
            self.trained.setdefault(key, []).append(self.epochs[key])
        if self.epochs[key] < EPOCHS:
            driver.searcher.on_trial_result(tune_id, self._report(key, values, done=False))
            return
        del driver.running[tune_id]
        self.ended[key] = "COMPLETE", accuracy(values, EPOCHS)
        if deed.startswith("dies"):
            self._die(driver, deed, tune_id, key, values)
        else:
            driver.searcher.on_trial_complete(tune_id, self._report(key, values, done=True))

    def _end_badly(self, driver: PretendedDriver, deed: str, tune_id: str, key: Key, values: Values) -> None:
        del driver.running[tune_id]
        if deed == "fails":
            driver.searcher.on_trial_complete(tune_id, self._report(key, values, done=True, failed="not finite"))
            self.ended[key] = "FAIL", None
            return
        driver.searcher.on_trial_complete(tune_id, error=True)
        if driver.studies.by_name[key[0]].stored.trial(key[1]).state == TrialState.FAIL:  # too often at one epoch
            self.ended[key] = "FAIL", None

    def _die(self, driver: PretendedDriver, deed: str, tune_id: str, key: Key, values: Values) -> None:
        """The driver dies after the result has been written, before or after its study has been told."""
        study = driver.studies.by_name[key[0]]
        real: Callable[..., None] = study.end_as

        def dying(*arguments: Any) -> None:
            if deed == "dies after":
                real(*arguments)
            raise Killed

        study.end_as = dying  # type: ignore[method-assign]
        with pytest.raises(Killed):
            driver.searcher.on_trial_complete(tune_id, self._report(key, values, done=True))
        self.driver = None

    @precondition(lambda self: self.former)
    @rule(data=st.data())
    def a_former_driver_wakes(self, data: st.DataObject) -> None:
        """Whatever it wants to write is refused."""
        COUNTS["a_former_driver_wakes"] += 1
        former = self.former.pop()
        before = {path: path.read_bytes() for path in self.run.path.rglob("*") if path.is_file()}
        tune_id = next(iter(sorted(former.running)), "")
        loses = bool(tune_id) and data.draw(st.booleans())
        with pytest.raises(Unfinished):
            former.searcher.on_trial_complete(tune_id, error=True) if loses else former.searcher.suggest("late")
        assert before == {path: path.read_bytes() for path in self.run.path.rglob("*") if path.is_file()}

    @precondition(lambda self: self.trials < MOST)
    @rule(more=st.integers(1, 3))
    def extend(self, more: int) -> None:
        COUNTS["extend"] += 1
        more = min(more, MOST - self.trials)
        self.trials = budget.extend(self.run, 3, more)

    @precondition(lambda self: not self.driver)
    @rule()
    def rename(self) -> None:
        COUNTS["rename"] += 1
        self.renamed += 1
        self.run = RunDir(self.run.path.rename(self.root / f"run{self.renamed}"))
        self.former.clear()

    @precondition(lambda self: self.run.journal.exists())
    @rule(target=copies)
    def back_up(self) -> bytes:
        return self.run.journal.read_bytes()

    @rule(copy=consumes(copies))
    def restore_an_old_journal(self, copy: bytes) -> None:
        """While no driver works; nor does a former one wake up after it."""
        COUNTS["restore_an_old_journal"] += 1
        self.driver = None
        self.former.clear()
        self.run.journal.write_bytes(copy)

    @precondition(lambda self: self.run.journal.exists())
    @rule(share=st.floats(0, 1))
    def cut_the_journal(self, share: float) -> None:
        """Up to any byte, while no driver works."""
        COUNTS["cut_the_journal"] += 1
        self.driver = None
        self.former.clear()
        whole = self.run.journal.read_bytes()
        self.run.journal.write_bytes(whole[: int(share * len(whole))])

    @precondition(lambda self: self.driver)
    @rule(tries=st.integers(1, 3), after=st.booleans())
    def blink(self, tries: int, after: bool) -> None:
        """The storage's next call is lost that often, or its answer is."""
        COUNTS["blink"] += 1
        assert self.driver
        storage = self.driver.studies.storage
        assert storage is not None
        real = storage.set_trial_user_attr
        left = [tries]

        def call(*arguments: Any) -> None:
            if left[0]:
                left[0] -= 1
                if after:
                    real(*arguments)
                raise StorageInternalError("away")
            del vars(storage)["set_trial_user_attr"]
            real(*arguments)

        storage.set_trial_user_attr = call  # type: ignore[method-assign]

    @invariant()
    def the_studies_say_what_is_true(self) -> None:
        """A reader, who writes nothing, finds every trial once, with its values, its epochs and its end."""
        files = {path: path.stat().st_mtime_ns for path in self.run.path.rglob("*") if path.is_file()}
        seen = Studies(EXPERIMENT, read_storage(self.run), self.run, reading=True)
        adopt_lost(self.run, seen)
        assert files == {path: path.stat().st_mtime_ns for path in self.run.path.rglob("*") if path.is_file()}
        for name, study in seen.by_name.items():
            assert study.drawn <= self.trials
            for trial in study.trials():
                assert {**trial.params, **trial.user_attrs.get("off", {})} == EXPECTED[name, trial.number]
                if trial.state.is_finished():
                    assert self.ended[name, trial.number] == (trial.state.name, trial.value)
        for (name, number), (state, value) in self.ended.items():
            trial = seen.by_name[name].stored.trial(number)
            assert (trial.state.name, trial.value) == (state, value)

    @invariant()
    def no_epoch_is_trained_twice(self) -> None:
        assert all(epochs == list(range(1, len(epochs) + 1)) for epochs in self.trained.values())


OTHERS = ("kill", "extend", "rename", "restore_an_old_journal", "cut_the_journal", "blink", "a_former_driver_wakes")


def test_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of deeds in any order; what was tried is enough of everything.

    They are the same in each process that has imported the same modules, whose constants hypothesis tries.
    """
    monkeypatch.setattr(door, "FIRST_PAUSE_S", 0.0001)
    monkeypatch.setattr(door, "LONGEST_PAUSE_S", 0.0001)
    COUNTS.clear()
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Search,
        settings=settings(
            max_examples=220, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=checks
        ),
    )
    assert sum(COUNTS[deed] for deed in {*DEEDS}) >= 2000, COUNTS
    assert COUNTS["ended"] >= 200, COUNTS
    assert min(COUNTS[name] for name in OTHERS) >= 5, COUNTS
