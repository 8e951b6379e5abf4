"""Comparing methods: the trials of a run are shared out over small searches, which are its repeats."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli import _running
from cotuning_tune.experiment import Experiment, read_experiment
from cotuning_tune.pipeline import extend
from cotuning_tune.runs import budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.driver import create_run, load_experiment
from cotuning_tune.search.repeats import prepare_repeats, set_searches

EXPERIMENT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
{keys}
[task]
size = 16
resize = 16
[train]
epochs = 1
"""
Call = Callable[..., tuple[int, list[str], list[str]]]


def created(folder: Path, keys: str) -> tuple[RunDir, Experiment]:
    path = folder / "mine.toml"
    path.write_text(EXPERIMENT.format(keys=keys))
    experiment = read_experiment(path)
    return create_run(experiment, folder / "runs", ["cotuning-tune"]), experiment


def test_each_search_has_its_own_seeds(tmp_path: Path) -> None:
    """Search seed, validation split and seed of the retraining count on; trials, methods and ranges are the same."""
    run, experiment = created(tmp_path, 'aim = "methods"\ntrials = 33\nseeds = [5, 6]\nsearch_seed = 70')
    set_searches(run, experiment)
    prepared = prepare_repeats(run, experiment)
    every = [experiment, *(again for _, again in prepared)]
    assert run.searches == len(every) == 8
    assert [one.config.search_seed for one in every] == list(range(70, 78))
    assert [one.task["val_seed"] for one in every] == list(range(8))
    assert [one.seeds for one in every] == [(seed,) for seed in range(5, 13)]
    assert {(one.trials, one.rule, one.searches) for one in every} == {(4, "max", 8)}
    assert all(one.train == experiment.train and one.methods == experiment.methods for one in every)
    for repeat, again in prepared:
        repeat.studies_folder.mkdir(exist_ok=True)
        assert load_experiment(repeat) == again


def test_a_repeat_shares_nothing_out(tmp_path: Path) -> None:
    """A small search that is worked on alone gets no searches of its own."""
    run, experiment = created(tmp_path, 'aim = "methods"\ntrials = 8')
    set_searches(run, experiment)
    ((repeat, again),) = prepare_repeats(run, experiment)
    repeat.studies_folder.mkdir()
    set_searches(repeat, again)
    assert (repeat.searches, repeat.repeats()) == (1, [])


def test_another_number_of_searches_is_refused(tmp_path: Path) -> None:
    """``--repeat-search`` and sharing out exclude each other, whatever has begun; the same number is no mistake."""
    run, experiment = created(tmp_path, 'aim = "methods"\ntrials = 8')
    with pytest.raises(UserError, match=r"--repeat-search 3: .* the 8 trials are shared out over 2 searches"):
        set_searches(run, experiment, 3)
    assert not run.repeats_file.exists()
    set_searches(run, experiment, 2)
    assert run.searches == 2


@pytest.mark.parametrize("keys", ["trials = 7", "trials = 6\nsearches = 4"])
def test_too_few_trials(tmp_path: Path, call: Call, keys: str) -> None:
    """One line, before a run is made, whether the file asks to compare or the command does."""
    path = tmp_path / "mine.toml"
    aim = 'aim = "methods"\n' if "searches" in keys else ""
    path.write_text(EXPERIMENT.format(keys=aim + keys))
    options = () if aim else ("--aim", "methods")
    code, _, errors = call("search", path, "--storage", tmp_path / "runs", *options)
    assert (code, len(errors)) == (2, 1)
    assert "give 8 trials or more, and 2 or more for each search" in errors[0]
    assert not (tmp_path / "runs").exists()


def test_small_searches_beside_a_run(tmp_path: Path) -> None:
    """A run that looked for a model gets them once, later: its own search stays, theirs compare the methods."""
    run, experiment = created(tmp_path, "trials = 4\nseeds = [0, 1]")
    run.studies_folder.mkdir()
    set_searches(run, experiment, small=8)
    kept = json.loads(run.repeats_file.read_text())
    assert (run.searches, kept["small"], kept["after_tests"]) == (3, 8, False)
    budget.extend(run, 4, 2)
    for _ in range(2):
        prepared = prepare_repeats(run, experiment)
        assert [repeat.path.name for repeat, _ in prepared] == ["mine-repeat2", "mine-repeat3"]
        found = [(again.config.aim, again.trials, again.seeds, again.task["val_seed"]) for _, again in prepared]
        assert found == [("methods", 4, (1,), 1), ("methods", 4, (2,), 2)]
        assert not any(repeat.budget.exists() for repeat, _ in prepared)
        for repeat, again in prepared:
            repeat.studies_folder.mkdir(exist_ok=True)
            assert load_experiment(repeat) == again
    set_searches(run, experiment)
    set_searches(run, experiment, small=8)
    with pytest.raises(UserError, match=r"has 3 searches .* 8 trials .* needs 4 searches .* 12 trials"):
        set_searches(run, experiment, small=12)


def test_other_trials_for_small_searches_are_refused(tmp_path: Path) -> None:
    """Also where they would be shared out over as many searches: what was fixed is not changed unsaid."""
    run, experiment = created(tmp_path, "trials = 4")
    run.studies_folder.mkdir()
    set_searches(run, experiment, small=32)
    with pytest.raises(UserError, match=r"has 9 searches .* 32 trials .* needs 9 searches .* 40 trials"):
        set_searches(run, experiment, small=40)


def test_whole_searches_are_no_small_ones(tmp_path: Path) -> None:
    """Small searches are refused where as many whole ones repeat the run's own."""
    run, experiment = created(tmp_path, "trials = 4")
    set_searches(run, experiment, 3)
    run.studies_folder.mkdir()
    with pytest.raises(UserError, match=r"has 3 searches, and what is asked .* needs 3 searches \(small"):
        set_searches(run, experiment, small=8)


def test_too_few_trials_for_small_searches(tmp_path: Path) -> None:
    """Nothing is fixed where they cannot be shared out."""
    run, experiment = created(tmp_path, "trials = 4")
    with pytest.raises(UserError, match="give 8 trials or more"):
        set_searches(run, experiment, small=7)
    assert not run.repeats_file.exists()


@pytest.mark.parametrize("more", [1, 3, 9])
def test_more_trials_are_shared_out_too(tmp_path: Path, more: int) -> None:
    """``extend`` takes multiples of the searches, and each gets its part."""
    run, experiment = created(tmp_path, 'aim = "methods"\ntrials = 8')
    set_searches(run, experiment)
    with pytest.raises(UserError, match=rf"--trials {more}: 2 searches share them out: give a multiple of 2"):
        extend(run, more)
    assert not run.budget.exists()
    assert extend(run, 6).trials == 4 + 3
    ((repeat, _),) = prepare_repeats(run, experiment)
    assert json.loads(repeat.budget.read_text())["trials"] == 7


@pytest.mark.parametrize("aim", [(), ("--aim", "methods")], ids=["", "the same aim"])
def test_extended_by_the_command(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, aim: tuple[str, ...]
) -> None:
    """``extend`` says whose trials there are more of, also where the run's own aim is named."""
    monkeypatch.setattr(_running, "_resume", lambda options: 0)
    run, experiment = created(tmp_path, 'aim = "methods"\ntrials = 8')
    set_searches(run, experiment)
    code, out, _ = call("extend", run.path, "--trials", 2, *aim)
    assert (code, out) == (0, [f"each study of {run.path} and of its repeats now has a budget of 5 trials"])


def test_extended_to_a_number(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--to-trials`` counts as the experiment does; again it changes nothing; fewer are refused."""
    resumed: list[object] = []
    monkeypatch.setattr(_running, "_resume", lambda options: resumed.append(options) or 0)
    run, experiment = created(tmp_path, 'aim = "methods"\ntrials = 8')
    set_searches(run, experiment)
    for _ in range(2):
        code, out, _ = call("extend", run.path, "--to-trials", 12)
        assert (code, out) == (0, [f"each study of {run.path} and of its repeats now has a budget of 6 trials"])
    assert (len(resumed), len(budget.growth(run))) == (2, 1)
    for other in (13, 10):
        code, _, (error,) = call("extend", run.path, "--to-trials", other)
        assert code == 2
        assert "--to-trials" in error
    with pytest.raises(UserError, match="one of them"):
        extend(run, 2, to=12)


def test_small_searches_do_not_grow(tmp_path: Path) -> None:
    """The trials of a run that looks for a model grow alone."""
    run, experiment = created(tmp_path, "trials = 4")
    set_searches(run, experiment, small=8)
    growth = extend(run, 2)
    assert (growth.trials, growth.repeats) == (6, False)


def test_the_aim_is_not_turned_back(tmp_path: Path, call: Call) -> None:
    """A run that compares methods has no search for a model to continue: one line says what to do."""
    run, _ = created(tmp_path, 'aim = "methods"\ntrials = 8')
    code, _, errors = call("resume", run.path, "--aim", "model")
    assert (code, len(errors)) == (2, 1)
    assert "start a new run (--aim model --name NEW)" in errors[0]


def test_hours_are_extended_by_the_command(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """``extend --hours`` adds to the hours; never both numbers at once, nor hours for small searches."""
    monkeypatch.setattr(_running, "_resume", lambda options: 0)
    run, _ = created(tmp_path, "hours = 8")
    assert call("extend", run.path, "--hours", 2)[:2] == (
        0,
        [f"each study of {run.path} now has 10 hours of search in all"],
    )
    assert call("extend", run.path, "--hours", 0.5)[1] == [
        f"each study of {run.path} now has 10.5 hours of search in all"
    ]
    for more in ((), ("--hours", 0), ("--trials", 1), ("--aim", "methods", "--hours", 1)):
        code, _, errors = call("extend", run.path, *more)
        assert (code, len(errors)) == (2, 1), errors
    assert json.loads(run.budget.read_text())["hours"] == 10.5


def test_small_searches_beside_one_of_hours(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share out as many trials as it had, and have no hours; before these are used the number is asked for."""
    asked: list[int] = []
    monkeypatch.setattr(_running, "_carry_out", lambda request: asked.append(request.small) or 0)
    run, experiment = created(tmp_path, "hours = 8")
    code, _, errors = call("resume", run.path, "--aim", "methods")
    assert code == 2
    assert "--aim methods --trials N" in errors[0]
    assert call("extend", run.path, "--aim", "methods", "--trials", 8)[0] == 0
    budget.write_json(run.time_used, {"hours": 8.0, "trials": 12, "time": 0.0})
    assert call("resume", run.path, "--aim", "methods")[0] == 0
    assert asked == [8, 12]
    set_searches(run, experiment, small=12)
    every = [again for _, again in prepare_repeats(run, experiment)]
    assert {(one.config.hours, one.trials) for one in every} == {(0.0, 4)}


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_search_of_hours_is_not_repeated(tmp_path: Path, call: Call, command: str) -> None:
    """Each would have another number of trials; nothing is made."""
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT.format(keys="hours = 8"))
    code, _, errors = call(command, path, "--repeat-search", 3)
    assert (code, len(errors)) == (2, 1)
    assert "--repeat-search 3: searches of 8 hours differ in trials" in errors[0]
    assert sorted(tmp_path.iterdir()) == [path]
