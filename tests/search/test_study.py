"""The studies deal out trials evenly, exactly, and the same way after any interruption."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.run.folder import RunDir
from cotuning_tune.search.repair import repair
from cotuning_tune.search.selection import importance
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import MARK, REISSUES, Issue, Studies

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
    return {"epoch": epoch, "val_accuracy": accuracy}


def finish(studies: Studies, issue: Issue) -> None:
    """Complete a trial with a value that follows from its parameters alone."""
    value = 50.0 + 1000 * issue.values["optim/lr"]
    studies.by_name[issue.study.name].complete(issue.number, value, seconds=1.0)


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


def cut_after(storage: BaseStorage, count: int) -> None:
    """From now on the driver dies when it wants to write a parameter after ``count`` more."""
    write, left = storage.set_trial_param, iter(range(count))

    def dying(*arguments: Any) -> None:
        if next(left, None) is None:
            raise Killed
        write(*arguments)

    storage.set_trial_param = dying  # type: ignore[method-assign]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_driver_killed_while_drawing(tmp_path: Path, sampler: str) -> None:
    """A trial with a part of its parameters, or none, gets the values that an undisturbed search draws."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    through = deal_all(Studies(experiment(sampler), open_storage(RunDir(tmp_path / "a"))))
    run, anew = RunDir(tmp_path / "b"), []
    for count in range(100):
        storage = open_storage(run)
        studies = Studies(experiment(sampler), storage)
        cut_after(storage, count // 2 % (3 + count % 2))  # fine_tune has three parameters, bss four
        with contextlib.suppress(Killed):
            if studies.next() is None:
                break
            pytest.fail("the driver should have died")
        studies = Studies(experiment(sampler), open_storage(run))
        told = [line.partition(": ")[2] for line in repair(run, studies) if line.endswith("drawn again")]
        assert told == [f"trial {count // 2} was being drawn when its driver died: drawn again"]
        assert repair(run, studies) == []
        issue = studies.next()
        assert issue is not None
        anew.append(issue)
        finish(studies, issue)
    assert anew == through


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_driver_of_a_warm_started_run_killed_while_drawing(tmp_path: Path, sampler: str) -> None:
    """Trials added from an older run do not change which point a trial is redrawn at."""

    def begun(run: RunDir) -> Studies:
        studies = Studies(experiment(sampler), open_storage(run))
        for study in studies.by_name.values():
            values = {key: study.firsts[0].values.get(key, 1e-3) for key in study.distributions}
            made = create_trial(
                params=values, distributions=study.distributions, value=50.0, user_attrs={MARK: "old 0"}
            )
            study.optuna.add_trials([made, made, made])
        return studies

    for name in "ab":
        (tmp_path / name).mkdir()
    through = deal_all(begun(RunDir(tmp_path / "a")))
    run = RunDir(tmp_path / "b")
    begun(run)
    anew: list[Issue] = []
    while len(anew) < len(through):
        storage = open_storage(run)
        studies = Studies(experiment(sampler), storage)
        cut_after(storage, 1)
        with pytest.raises(Killed):
            studies.next()
        studies = Studies(experiment(sampler), open_storage(run))
        assert sum(line.endswith("drawn again") for line in repair(run, studies)) == 1
        issue = studies.next()
        assert issue is not None
        anew.append(issue)
        finish(studies, issue)
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


def test_a_driver_killed_between_queueing_and_asking_loses_nothing(tmp_path: Path) -> None:
    """A queued first point is the next trial, not one more."""
    studies = Studies(experiment(), open_storage(RunDir(tmp_path)))
    study = studies.by_name["synthetic-1.00-bss"]
    study.optuna.enqueue_trial(study.firsts[0].values)
    issues = [i for i in deal_all(Studies(experiment(), open_storage(RunDir(tmp_path)))) if i.study.method == "bss"]
    assert [i.number for i in issues] == list(range(6))
    assert issues[0].values == study.firsts[0].values


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
            studies.by_name[issue.study.name].fail(issue.number, "broken")
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
        assert study.reissue(number, "killed")
        assert study.issue().number == number
    assert not study.reissue(number, "killed")
    assert study.trials()[number].user_attrs["reissued"] == REISSUES + 1


def test_a_trial_that_gets_on_is_only_unlucky(tmp_path: Path) -> None:
    """Losses at different epochs do not add up: however often its workers die, a trial that gets on is kept."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    number = study.issue().number
    for epoch in range(1, 10):
        study.report(number, [row(n, 10.0) for n in range(1, epoch + 1)])
        assert study.reissue(number, "killed")
        assert study.issue().number == number
    assert study.trials()[number].user_attrs["reissued"] == 9


def test_the_earliest_of_equals_is_best(tmp_path: Path) -> None:
    """Ties of validation accuracy go to the trial that was asked for first."""
    study = Studies(experiment(), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    for value in (40.0, 60.0, 60.0):
        study.complete(study.issue().number, value, seconds=1.0)
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
