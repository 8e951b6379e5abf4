"""After the last drawn trial of a study its best are trained once more on another validation split, whatever dies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from cotuning_tune import methods
from cotuning_tune.base.toml_text import set_key
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.runs.budget import extend
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Values
from cotuning_tune.search.rows import CONFIRMS
from cotuning_tune.search.selection import write_selections
from cotuning_tune.search.space import first_points
from cotuning_tune.search.status import status_table
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import REISSUES, Issue, OptunaStudy, Studies
from tests.search.ends import complete, fail
from tests.search.test_study import redrawn

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["bss"]
backbone = "tiny_cnn"
trials = 4
sampler = "random"
[task]
size = 16
resize = 16
"""
NAME = "synthetic-1.00-bss"
ACCURACIES = {0: 50.0, 1: 60.0, 2: 70.0, 3: 80.0}
AGAIN = {3: 50.0, 2: 72.0, 1: 75.0}


def experiment(**keys: object) -> Experiment:
    text = TEXT
    for key, value in keys.items():
        text = set_key(text, ["experiment", key], value)
    return parse(text, "again")


def begun(storage: InMemoryStorage, **keys: object) -> Studies:
    return Studies(experiment(**keys), storage)


def study_of(studies: Studies) -> OptunaStudy:
    return studies.by_name[NAME]


def finish(studies: Studies, issue: Issue) -> None:
    """Complete a drawn trial, or one that confirms, with its accuracy of the tables above."""
    confirms = study_of(studies).trials()[issue.number].user_attrs.get(CONFIRMS)
    accuracy = ACCURACIES.get(issue.number, 10.0) if confirms is None else AGAIN.get(confirms, 10.0)
    complete(study_of(studies), issue.number, accuracy, loss=100.0 - accuracy)


def search(studies: Studies, end: Callable[[Studies, Issue], None] = finish) -> list[Issue]:
    """Hand out all that there is, one after the other, and end it."""
    issues = []
    while (issue := studies.next()) is not None:
        issues.append(issue)
        end(studies, issue)
    return issues


def chosen(run: RunDir, studies: Studies) -> dict[str, Any]:
    write_selections(run, studies.experiment, studies)
    found: dict[str, Any] = json.loads(run.study(NAME).selection.read_text())
    return found


def test_the_best_are_trained_once_more() -> None:
    """Their values, on the next validation split, the best first, after all drawn trials have ended."""
    studies = begun(InMemoryStorage())
    assert (studies.total, studies.experiment.confirmations) == (7, 3)
    drawn = [studies.next() for _ in range(4)]
    assert all(issue is not None and issue.splits == (0,) for issue in drawn)
    for issue in drawn[1:]:
        assert issue is not None
        finish(studies, issue)
    assert (studies.next(), studies.finished) == (None, False)
    assert drawn[0] is not None
    finish(studies, drawn[0])
    again = search(studies)
    assert [issue.number for issue in again] == [4, 5, 6]
    assert [issue.splits for issue in again] == [(1,)] * 3
    assert [issue.values for issue in again] == [drawn[n].values for n in (3, 2, 1)]  # type: ignore[union-attr]
    assert (studies.total, studies.finished, studies.full) == (7, True, True)
    study = study_of(studies)
    assert [row["number"] for row in study.rows()] == [0, 1, 2, 3]
    assert [trial.user_attrs[CONFIRMS] for trial in study.confirming()] == [3, 2, 1]


def test_the_mean_is_chosen(tmp_path: Path) -> None:
    """The selection names both accuracies and their mean; the study's file lists the confirmations."""
    run = RunDir(tmp_path)
    studies = begun(InMemoryStorage())
    search(studies)
    found = chosen(run, studies)
    assert (found["trial"], found["val_score"], found["val_scores"]) == (2, 71.0, [70.0, 72.0])
    assert found["rule"].startswith("of the 3 best, once more on another split")
    assert found["spec"]["task_config"]["val_seed"] == 0
    told = json.loads(run.study(NAME).summary.read_text())["confirmations"]
    assert [(one["confirms"], one["state"], one["score"]) for one in told] == [
        (3, "COMPLETE", 50.0),
        (2, "COMPLETE", 72.0),
        (1, "COMPLETE", 75.0),
    ]


def test_the_off_trial_is_confirmed_switched_off() -> None:
    """The method stays off on the other split, where 0 lies outside of its range."""
    studies = begun(InMemoryStorage())
    issues = search(studies)
    again = next(issue for issue in issues[4:] if issue.values == issues[1].values)
    assert again.values["bss/weight"] == 0
    assert study_of(studies).trials()[again.number].params["bss/weight"] == 1e-5


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_drawing(moment: str) -> None:
    """A confirmation stands in the storage whole or not at all: none is lost, none done twice."""
    undisturbed, storage = search(begun(InMemoryStorage())), InMemoryStorage()

    def anew() -> Studies:
        vars(storage).pop("create_new_trial", None)
        return begun(storage)

    assert redrawn(anew, moment, finish) == undisturbed


def test_a_running_one_is_issued_again() -> None:
    """A confirming trial that its driver left RUNNING comes first, on its split; a worker's loss puts it back too."""
    storage = InMemoryStorage()
    studies = begun(storage)
    for _ in range(4):
        issue = studies.next()
        assert issue is not None
        finish(studies, issue)
    lost = studies.next()
    assert lost is not None
    newer = begun(storage)
    assert not newer.finished
    assert newer.next() == lost
    assert study_of(newer).reissue(lost.number, "killed", 0)
    assert newer.next() == lost
    finish(newer, lost)
    assert [issue.number for issue in search(newer)] == [5, 6]


@pytest.mark.parametrize("lost", [False, True], ids=["its own fault", "lost too often"])
def test_a_failing_one_drops_its_trial(tmp_path: Path, lost: bool) -> None:
    """It is not trained again, and the others' means decide."""

    def end(studies: Studies, issue: Issue) -> None:
        study = study_of(studies)
        if study.trials()[issue.number].user_attrs.get(CONFIRMS) != 2:
            return finish(studies, issue)
        if not lost or not study.reissue(issue.number, "killed", 0):
            fail(study, issue.number, "not finite")
        return None

    studies = begun(InMemoryStorage())
    issues = search(studies, end)
    assert len(issues) == 7 + (REISSUES if lost else 0)
    assert (studies.finished, studies.full) == (True, True)
    found = chosen(RunDir(tmp_path), studies)
    assert (found["trial"], found["val_scores"]) == (1, [60.0, 75.0])


def test_fewer_of_full_length() -> None:
    """Failed trials are not confirmed, and a study without any of full length confirms nothing."""

    def only(*kept: int) -> Callable[[Studies, Issue], None]:
        def end(studies: Studies, issue: Issue) -> None:
            if issue.number in kept or issue.splits == (1,):
                finish(studies, issue)
            else:
                fail(study_of(studies), issue.number, "not finite")

        return end

    for kept, count in (((0, 3), 6), ((), 4)):
        studies = begun(InMemoryStorage())
        assert len(search(studies, only(*kept))) == count
        assert (studies.total, studies.finished, studies.full) == (count, True, bool(kept))


def test_an_extended_run_confirms_anew(tmp_path: Path) -> None:
    """After more trials those of the new best that were not confirmed are; what fell behind counts no more."""
    run, storage = RunDir(tmp_path), InMemoryStorage()
    studies = Studies(experiment(), storage, run)
    search(studies)
    assert studies.finished
    extend(run, 4, 2)
    assert not studies.finished
    grown = Studies(experiment(), storage, run)

    def end(studies: Studies, issue: Issue) -> None:
        complete(study_of(studies), issue.number, 90.0 if issue.splits == (0,) else 85.0)

    more = search(grown, end)
    assert [(issue.number, issue.splits) for issue in more] == [(7, (0,)), (8, (0,)), (9, (1,)), (10, (1,))]
    confirms = [trial.user_attrs[CONFIRMS] for trial in study_of(grown).confirming()]
    assert confirms == [3, 2, 1, 7, 8]
    found = chosen(run, grown)
    assert (found["trial"], found["val_scores"]) == (7, [90.0, 85.0])


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_confirmations_change_no_draw(tmp_path: Path, sampler: str) -> None:
    """A run that grew after its confirmations has the points of one that had all its trials from the start."""
    run, storage = RunDir(tmp_path), InMemoryStorage()
    first = search(Studies(experiment(sampler=sampler), storage, run))
    extend(run, 4, 2)
    first += search(Studies(experiment(sampler=sampler), storage, run))
    straight = search(begun(InMemoryStorage(), sampler=sampler, trials=6))
    assert [one.values for one in first if one.splits == (0,)] == [one.values for one in straight if one.splits == (0,)]


@pytest.mark.parametrize(("rule", "trial", "accuracy"), [("max", 3, 80.0), ("loss", 0, 50.0)])
def test_the_other_rules_confirm_nothing(tmp_path: Path, rule: str, trial: int, accuracy: float) -> None:
    """'max' takes the most accurate trial, 'loss' the one with the lowest validation loss; both as it was drawn."""

    def end(studies: Studies, issue: Issue) -> None:
        complete(study_of(studies), issue.number, ACCURACIES[issue.number], loss=ACCURACIES[issue.number] / 100)

    studies = begun(InMemoryStorage(), selection=rule)
    assert (len(search(studies, end)), studies.total, studies.full) == (4, 4, True)
    found = chosen(RunDir(tmp_path), studies)
    assert (found["trial"], found["val_score"], found["val_scores"]) == (trial, accuracy, [accuracy])


def test_the_pruner_leaves_confirmations_alone() -> None:
    """However poor on the other split, a confirming trial runs to its end."""
    studies = begun(InMemoryStorage(), pruner="median")
    study = study_of(studies)
    history = [{"epoch": epoch, "val_score": 90.0} for epoch in range(1, 20)]
    for _ in range(4):
        study.report(study.issue().number, history)
        finish(studies, Issue(study.key, len(study.trials()) - 1, {}))
    number = study.issue().number
    study.report(number, [{"epoch": epoch, "val_score": 1.0} for epoch in range(1, 20)])
    assert not study.stops(number)
    assert study.trials()[number].state == TrialState.RUNNING


def test_status_counts_confirmations(tmp_path: Path) -> None:
    """How many have ended, of how many."""
    run = RunDir(tmp_path)
    studies = Studies(experiment(), open_storage(run), run)
    shown = []
    for _ in range(6):
        table = status_table(run, experiment())
        shown.append(table.rows[0][table.header.index("confirmed")])
        issue = studies.next()
        assert issue is not None
        finish(studies, issue)
    assert shown == ["0/3"] * 5 + ["1/3"]


def test_own_failures_shift_no_point() -> None:
    """Under qmc, whatever fails where, the trial of a number has the same shared values for every method, by name."""
    studies = begun(InMemoryStorage(), methods=methods.names(), sampler="qmc", trials=9, selection="max")
    drawn: dict[str, list[Values]] = {}
    for step in range(9 * len(methods.names())):
        issue = studies.next()
        assert issue is not None
        study = studies.by_name[issue.study.name]
        if not study.trials()[issue.number].user_attrs.get("fixed"):
            drawn.setdefault(issue.study.method, []).append(issue.values)
        if step % 4 == 1 or (issue.study.method == "lwf" and issue.number > 1):
            fail(study, issue.number, "not finite")
        else:
            complete(study, issue.number, 50.0)
    assert studies.next() is None
    assert {name: len(points) for name, points in drawn.items()} == {
        name: 8 if name in WITHOUT_WEIGHT else 7 for name in methods.names()
    }
    plain = drawn["fine_tune"]
    assert set(plain[0]) == {"optim/lr", "optim/head_lr_factor", "optim/weight_decay"}
    assert len({point["optim/weight_decay"] for point in plain}) == 8
    for name, points in drawn.items():
        for point, common in zip(points, plain[-len(points) :], strict=True):
            shared = set(point) & set(common)
            assert shared >= {"optim/lr", "optim/head_lr_factor"}
            assert ("optim/weight_decay" in shared) is not methods.method(name).replaces_weight_decay
            assert {key: point[key] for key in shared} == {key: common[key] for key in shared}


WITHOUT_WEIGHT = {"fine_tune", *(name for name in methods.names() if methods.method(name).variant)}
REACHED = {  # inside their ranges
    "gradual_unfreezing": {"gradual_unfreezing/share": 0.0},
    "lp_ft": {"lp_ft/probe": 0.0},
    "stoch_norm": {"stoch_norm/probability": 1.0},
    "wise_ft": {"wise_ft/alpha": 1.0, "wise_ft/probe": 0.0},
}


@pytest.mark.parametrize("name", methods.names())
def test_the_second_point_switches_off(name: str) -> None:
    """Trial 1 is the published point with the method's weight at 0: 'off', or 'weakest' where another penalty stays."""
    points = first_points(experiment(methods=[name]).space(name))
    assert points[0].name == "published"
    assert points[0].off == {}
    if name in WITHOUT_WEIGHT:
        assert len(points) == 1
        return
    expected, reached = "weakest" if name in ("l2_sp", "delta") else "off", REACHED.get(name, {})
    assert (points[1].name, points[1].off) == (expected, {} if reached else {f"{name}/weight": 0.0})
    differs = {key: value for key, value in points[1].values.items() if value != points[0].values[key]}
    assert differs == reached or set(differs) == {f"{name}/weight"}


def test_a_comparison_has_no_fixed_points() -> None:
    """With aim = 'methods' every trial is drawn, and all are of one search's share."""
    studies = begun(InMemoryStorage(), aim="methods", searches=2)
    issues = search(studies)
    assert len(issues) == 2
    assert [row["fixed"] for row in study_of(studies).rows()] == ["", ""]
    assert all(issue.values["bss/weight"] > 0 for issue in issues)
