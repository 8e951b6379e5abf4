"""A storage that is away for a while: calls are repeated, and none is done twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from cotuning_tune.base.errors import Unfinished
from cotuning_tune.experiment import parse
from cotuning_tune.search import door
from cotuning_tune.search.study import Studies
from tests.search.ends import complete
from tests.search.test_storage import CELL, TEXT, told

WRITES = (
    "create_new_study",
    "create_new_trial",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_state_values",
    "set_study_user_attr",
)
READS = ("get_all_trials", "get_study_id_from_name", "get_trial_id_from_study_id_trial_number", "get_study_user_attrs")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(door, "LONGEST_PAUSE_S", 0.002)


def away() -> Exception:
    """What a database that went away looks like through Optuna."""
    problem = StorageInternalError("An exception is raised during the commit.")
    problem.__cause__ = OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))
    return problem


def blinking(storage: BaseStorage, name: str, moment: str) -> None:
    """Each call of that name fails twice: ``before`` it has done anything, or ``after`` it has, its answer lost."""
    real: Callable[..., Any] = getattr(storage, name)
    failures = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures % 3 == 0:
            return real(*arguments, **named)
        if moment == "after" and failures % 3 == 1:
            real(*arguments, **named)
        raise away()

    setattr(storage, name, call)


def search(storage: BaseStorage, said: list[str] | None = None) -> object:
    """A whole search over a storage; all that it holds afterwards."""
    studies = Studies(parse(TEXT, "blink"), storage, say=(said if said is not None else []).append)
    studies.claim()
    studies.keep_ledger_head({"lines": 1, "hash": "h"})
    study = studies.by_name[CELL]
    while (issue := studies.next()) is not None:
        study.report(issue.number, [{"epoch": 1, "val_score": 40.0 + issue.number}])
        complete(study, issue.number, 40.0 + issue.number)
    return [told(trial) for trial in study.trials()]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_done_once(name: str, moment: str) -> None:
    """Whether the call or only its answer was lost: the search is that of a storage that was always there."""
    storage, said = InMemoryStorage(), list[str]()
    blinking(storage, name, moment)
    assert search(storage, said) == search(InMemoryStorage())
    assert any("paused: the storage of the studies does not answer (" in line for line in said)
    assert "server closed the connection unexpectedly" in said[0]
    assert said[-1] == "continuing: the storage of the studies answers again"
    vars(storage).clear()


@pytest.mark.parametrize("name", READS)
def test_a_read_is_repeated(name: str) -> None:
    """Reading is no different."""
    storage = InMemoryStorage()
    blinking(storage, name, "before")
    assert search(storage) == search(InMemoryStorage())


def test_what_the_storage_holds_is_what_the_driver_knows() -> None:
    """After answers that were lost at every write, the next driver finds the trials that this one knew."""
    storage = InMemoryStorage()
    for name in WRITES:
        blinking(storage, name, "after")
    known = search(storage)
    for name in WRITES:
        del vars(storage)[name]
    anew = Studies(parse(TEXT, "blink"), storage).by_name[CELL]
    assert [told(trial) for trial in anew.trials()] == known
    assert anew.counts()[TrialState.COMPLETE] == 3


def test_after_the_stated_time_the_driver_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With code 85 and the database's own reason in one line."""
    monkeypatch.setattr(door, "PATIENCE_S", 0.01)
    storage = InMemoryStorage()
    study = Studies(parse(TEXT, "blink"), storage).by_name[CELL]

    def gone(*_arguments: Any, **_named: Any) -> int:
        raise away()

    storage.create_new_trial = gone  # type: ignore[method-assign]
    with pytest.raises(Unfinished) as ended:
        study.issue()
    assert ended.value.code == 85
    assert ended.value.reason.startswith("the storage of the studies has not answered for")
    assert "server closed the connection unexpectedly" in ended.value.reason


def test_other_errors_pass_at_once(tmp_path: Path) -> None:
    """A fault of the program is no outage."""
    with pytest.raises(ValueError, match="mine"):
        door.patiently(lambda: (_ for _ in ()).throw(ValueError("mine")))
