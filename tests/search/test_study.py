"""The studies deal out trials evenly, exactly, and the same way after any interruption."""

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.rows import LOSSES
from cotuning_tune.search.selection import importance
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.stored import MARK
from cotuning_tune.search.study import REISSUES, STARTS, Issue, Studies
from tests.search.ends import complete, fail

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 6
sampler = "{sampler}"
selection = "max"
"""


def experiment(sampler: str = "random") -> Experiment:
    return parse(TEXT.format(sampler=sampler), "deal")


def row(epoch: int, accuracy: float) -> dict[str, float]:
    return {"epoch": epoch, "val_score": accuracy}


def finish(studies: Studies, issue: Issue) -> None:
    """Complete a trial with a value that follows from its parameters alone."""
    value = 50.0 + 1000 * issue.values["optim/lr"]
    complete(studies.by_name[issue.study.name], issue.number, value, seconds=1.0)


def deal_all(studies: Studies) -> list[Issue]:
    """Deal out and complete every trial, one after the other."""
    issues = []
    while (issue := studies.next()) is not None:
        issues.append(issue)
        finish(studies, issue)
    return issues


def test_trials_are_dealt_evenly(tmp_path: Path) -> None:
    """Studies take turns, and each gets exactly its budget."""
    issues = deal_all(Studies(experiment(), open_storage(RunDir(tmp_path))))
    assert [i.study.method for i in issues] == ["fine_tune", "bss"] * 6
    assert [i.number for i in issues if i.study.method == "bss"] == list(range(6))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_restarts_do_not_change_the_draws(tmp_path: Path, sampler: str) -> None:
    """A driver started anew before each trial asks for the same parameters as one that lives through."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    through = deal_all(Studies(experiment(sampler), open_storage(RunDir(tmp_path / "a"))))
    anew = []
    while issue := (studies := Studies(experiment(sampler), open_storage(RunDir(tmp_path / "b")))).next():
        anew.append(issue)
        finish(studies, issue)
    assert anew == through
    assert len({str(issue.values) for issue in through}) == len(through)


class Killed(Exception):  # noqa: N818 - what happened
    """Stands for the death of the driver."""


def dies_drawing(storage: BaseStorage, moment: str) -> None:
    """The driver dies ``before`` or ``after`` its next trial stands in the storage."""
    write = storage.create_new_trial

    def dying(*arguments: Any, **named: Any) -> int:
        if moment == "after":
            write(*arguments, **named)
        raise Killed

    storage.create_new_trial = dying  # type: ignore[method-assign]


def redrawn(start: Callable[[], Studies], moment: str, end: Callable[[Studies, Issue], None]) -> list[Issue]:
    """All issues of a search whose driver dies at every draw: each as the next driver hands it out, and ends it."""
    anew: list[Issue] = []
    while True:
        studies = start()
        dies_drawing(studies.storage, moment)
        with contextlib.suppress(Killed):
            if studies.next() is None:
                return anew
            pytest.fail("the driver should have died")
        studies = start()
        assert sum(study.busy for study in studies.by_name.values()) == (moment == "after")
        issue = studies.next()
        assert issue is not None
        anew.append(issue)
        end(studies, issue)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_driver_killed_while_drawing(tmp_path: Path, sampler: str, moment: str) -> None:
    """A trial stands in the storage whole or not at all; either way it gets the values of an undisturbed search."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    through = deal_all(Studies(experiment(sampler), open_storage(RunDir(tmp_path / "a"))))
    anew = redrawn(lambda: Studies(experiment(sampler), open_storage(RunDir(tmp_path / "b"))), moment, finish)
    assert anew == through


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_driver_of_a_warm_started_run_killed_while_drawing(tmp_path: Path, sampler: str, moment: str) -> None:
    """Trials added from an older run do not change which point a trial is drawn at."""

    def begun(run: RunDir) -> Studies:
        studies = Studies(experiment(sampler), open_storage(run))
        for study in studies.by_name.values():
            values = {key: study.firsts[0].values.get(key, 1e-3) for key in study.distributions}
            made = create_trial(
                params=values, distributions=study.distributions, value=50.0, user_attrs={MARK: "old 0"}
            )
            for _ in range(3):
                study.adopt(made)
        return studies

    for name in "ab":
        (tmp_path / name).mkdir()
    through = deal_all(begun(RunDir(tmp_path / "a")))
    run = RunDir(tmp_path / "b")
    begun(run)
    anew = redrawn(lambda: Studies(experiment(sampler), open_storage(run)), moment, finish)
    assert anew == through


def test_an_interrupted_trial_comes_first(tmp_path: Path) -> None:
    """A trial that is RUNNING when a driver starts is handed out again, with its number and parameters."""
    first = Studies(experiment(), open_storage(RunDir(tmp_path)))
    lost = [first.next(), first.next(), first.next()]
    second = Studies(experiment(), open_storage(RunDir(tmp_path)))
    again = [second.next(), second.next(), second.next()]
    assert sorted(again, key=str) == sorted(lost, key=str)
    fresh = second.next()
    assert fresh not in again


def test_what_another_program_has_queued_is_left_alone(tmp_path: Path) -> None:
    """A point that a dashboard has queued is none of the search's: not asked for, not counted."""
    storage = open_storage(RunDir(tmp_path))
    studies = Studies(experiment(), storage)
    optuna.load_study(study_name="deal/synthetic-1.00-bss", storage=storage).enqueue_trial({"optim/lr": 0.5})
    issues = [i for i in deal_all(Studies(experiment(), storage)) if i.study.method == "bss"]
    assert [i.number for i in issues] == list(range(1, 7))
    assert issues[0].values == studies.by_name["synthetic-1.00-bss"].firsts[0].values


def test_a_trial_that_another_driver_has_begun_meanwhile(tmp_path: Path) -> None:
    """A former driver draws one more after the new one has looked: it is issued again at once, nobody waits for it."""
    storage = open_storage(RunDir(tmp_path))
    new, former = (Studies(experiment(), storage) for _ in range(2))
    lost = former.by_name["synthetic-1.00-bss"].issue()
    issues = deal_all(new)
    assert new.finished
    mine = [issue for issue in issues if issue.study.method == "bss"]
    assert sorted(issue.number for issue in mine) == list(range(6))
    assert [issue.values for issue in mine if issue.number == 0] == [lost.values]


def test_a_report_fills_what_was_missed(tmp_path: Path) -> None:
    """Reports carry the whole history: epochs that a killed driver missed are filled in, none overwritten."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    number = study.issue().number
    study.report(number, [row(1, 10.0)])
    study.report(number, [row(1, 99.0), row(2, 20.0), row(3, 30.0)])
    assert study.trials()[number].intermediate_values == {1: 10.0, 2: 20.0, 3: 30.0}


def test_own_failures_use_up_draws(tmp_path: Path) -> None:
    """A trial that failed by its own fault has no successor: a method that fails often gets no further draws."""
    studies = Studies(experiment(), open_storage(RunDir(tmp_path)))
    while (issue := studies.next()) is not None:
        if issue.study.method == "bss":
            fail(studies.by_name[issue.study.name], issue.number, "broken")
        else:
            finish(studies, issue)
    counts = {name: study.counts() for name, study in studies.by_name.items()}
    assert counts["synthetic-1.00-fine_tune"] == Counter({TrialState.COMPLETE: 6})
    assert counts["synthetic-1.00-bss"] == Counter({TrialState.FAIL: 6})
    assert (studies.finished, studies.full) == (True, False)


def test_the_infrastructure_may_lose_a_trial_three_times(tmp_path: Path) -> None:
    """Then it is not issued again."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    number = study.issue().number
    for _ in range(REISSUES):
        assert study.reissue(number, "killed", 0)
        assert study.issue().number == number
    assert not study.reissue(number, "killed", 0)
    assert study.trials()[number].user_attrs[LOSSES]["count"] == REISSUES + 1


def test_a_worker_that_dies_before_it_has_begun_says_nothing_about_the_trial(tmp_path: Path) -> None:
    """Losses count where somebody had begun since the last one; of others there may be many, not any number."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    number = study.issue().number
    for owner in ("", "", "first", "first", "first", "second", *["second"] * 10, "third"):
        assert study.reissue(number, "killed", 0, owner)
        assert study.issue().number == number
    assert study.trials()[number].user_attrs[LOSSES]["here"] == REISSUES
    assert not study.reissue(number, "killed", 0, "fourth")

    other = study.issue().number
    for _ in range(STARTS):
        assert study.reissue(other, "killed", 0, "")
        assert study.issue().number == other
    assert not study.reissue(other, "killed", 0, "")


def test_a_trial_that_gets_on_is_only_unlucky(tmp_path: Path) -> None:
    """Losses at different epochs do not add up: however often its workers die, a trial that gets on is kept."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    number = study.issue().number
    for epoch in range(1, 10):
        assert study.reissue(number, "killed", epoch)
        assert study.issue().number == number
    assert study.trials()[number].user_attrs[LOSSES]["count"] == 9


def test_the_earliest_of_equals_is_best(tmp_path: Path) -> None:
    """Ties of validation accuracy go to the trial that was asked for first."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    for value in (40.0, 60.0, 60.0):
        complete(study, study.issue().number, value, seconds=1.0)
    best = study.best()
    assert best is not None
    assert best["number"] == 1


def test_importance_names_what_made_the_difference(tmp_path: Path) -> None:
    """Where accuracy follows the learning rate alone, its share is the greatest; fewer than 30 trials have none."""
    text = TEXT.format(sampler="random").replace("trials = 6", "trials = 32")
    studies = Studies(parse(text, "deal"), open_storage(RunDir(tmp_path)))
    while len(studies.by_name["synthetic-1.00-bss"].own_trials()) < 29:
        finish(studies, studies.next())
    study = studies.by_name["synthetic-1.00-bss"]
    assert importance(study) == {}
    deal_all(studies)
    shares = importance(study)
    assert set(shares) == set(study.distributions)
    assert max(shares, key=shares.get) == "optim/lr"
    assert sum(shares.values()) == pytest.approx(1)
