"""Early stopping over the durable study: within a study, kept over a kill, never hiding a full trial."""

from pathlib import Path

import pytest
from optuna.trial import TrialState

from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.rows import score_of
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import OptunaStudy, Studies
from tests.search.ends import complete, prune

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 9
sampler = "random"
pruner = "{pruner}"
[train]
epochs = 9
"""


def studies(folder: Path, pruner: str) -> list[OptunaStudy]:
    run = RunDir(folder)
    experiment = parse(TEXT.format(pruner=pruner), "stop")
    return list(Studies(experiment, open_storage(run), run).by_name.values())


def run_trial(study: OptunaStudy, level: float) -> int:
    """A trial whose accuracy is ``level`` at every epoch; ends it as the rule says. Returns the epochs."""
    number = study.issue().number
    history: list[dict[str, float]] = []
    for epoch in range(1, 10):
        history.append({"epoch": epoch, "val_score": level})
        study.report(number, history)
        if epoch < 9 and study.stops(number):
            prune(study, number, accuracy=history[-1]["val_score"], seconds=1.0)
            return epoch
    complete(study, number, level, seconds=1.0)
    return 9


def test_asha_stops_at_its_rungs(tmp_path: Path) -> None:
    """With rungs at 1, 3, 9 a worse trial ends at a rung, the best one runs to its end."""
    study = studies(tmp_path, "asha")[0]
    epochs = [run_trial(study, level) for level in (50, 60, 70, 10, 20, 80)]
    assert set(epochs) <= {1, 3, 9}
    assert epochs[3] == epochs[4] == 1
    assert epochs[5] == 9


def test_rungs_survive_a_new_driver(tmp_path: Path) -> None:
    """Decisions are the same whether one driver lives through or each trial has its own."""
    levels = (50, 60, 70, 10, 20, 80, 55, 65, 5)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = studies(tmp_path / "a", "asha")[0]
    through = [run_trial(one, level) for level in levels]
    anew = [run_trial(studies(tmp_path / "b", "asha")[0], level) for level in levels]
    assert anew == through
    assert 1 in through
    assert 9 in through


def test_median_compares_at_the_same_epoch(tmp_path: Path) -> None:
    """From the fifth trial on, what lies below the median is stopped after the warm-up."""
    study = studies(tmp_path, "median")[0]
    assert [run_trial(study, level) for level in (50, 50, 50, 50, 50)] == [9] * 5
    assert run_trial(study, 40) == 2
    assert run_trial(study, 60) == 9


@pytest.mark.parametrize("pruner", ["asha", "median"])
def test_studies_do_not_stop_each_other(tmp_path: Path, pruner: str) -> None:
    """A method with high accuracies does not stop the trials of another."""
    good, bad = studies(tmp_path, pruner)
    for _ in range(6):
        run_trial(good, 90)
    assert run_trial(bad, 10) == 9


def test_a_decision_outlives_its_driver(tmp_path: Path) -> None:
    """Killed between deciding and telling: the next driver knows that the trial was stopped."""
    first = studies(tmp_path, "asha")[0]
    for level in (50, 60, 70):
        run_trial(first, level)
    number = first.issue().number
    first.report(number, [{"epoch": 1, "val_score": 1.0}])
    assert first.stops(number)
    second = studies(tmp_path, "asha")[0]
    assert second.orphans == [number]
    assert second.pruning_decided(number)


def test_stopped_trials_keep_their_reports(tmp_path: Path) -> None:
    """PRUNED with every report, judged by the epoch it kept; chosen only where no trial has full length."""
    study = studies(tmp_path, "asha")[0]
    number = study.issue().number
    study.report(number, [{"epoch": 1, "val_score": 90.0}, {"epoch": 2, "val_score": 80.0}])
    prune(study, number, accuracy=80.0, seconds=1.0)
    pruned = study.trials()[number]
    assert pruned.state == TrialState.PRUNED
    assert pruned.intermediate_values == {1: 90.0, 2: 80.0}
    assert score_of(pruned) == 80.0
    best = study.best()
    assert best is not None
    assert best["number"] == number
    full = study.issue().number
    complete(study, full, 30.0, seconds=1.0)
    best = study.best()
    assert best is not None
    assert best["number"] == full
