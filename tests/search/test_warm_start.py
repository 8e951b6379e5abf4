"""Starting from an old run: which of its trials are told to the new one's sampler."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.stored import MARK
from cotuning_tune.search.study import Studies
from cotuning_tune.search.warm_start import warm_start

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
[train.optim]
lr = { low = 1e-3, high = 1e-1 }
head_lr_factor = [1.0, 10.0]
weight_decay = 0.0
"""
LR, FACTOR = "optim/lr", "optim/head_lr_factor"
OLD = {
    LR: FloatDistribution(0.0, 1.0),
    FACTOR: CategoricalDistribution((1.0, 10.0, 30.0)),
    "gone": FloatDistribution(0.0, 1.0),
}


@pytest.mark.parametrize(
    ("values", "added"),
    [
        ({LR: 0.01, FACTOR: 10.0}, 1),
        ({LR: 0.01, FACTOR: 10.0, "gone": 0.5}, 1),
        ({LR: 0.5, FACTOR: 10.0}, 0),
        ({LR: 0.01, FACTOR: 30.0}, 0),
        ({LR: 0.01}, 0),
    ],
    ids=["inside", "no longer searched", "out of range", "no longer an option", "missing"],
)
def test_trials_inside_the_new_space_are_told(tmp_path: Path, values: dict[str, Any], added: int) -> None:
    """An old trial is added once where every searched value lies in the new ranges and options, else left out."""
    studies = Studies(parse(TEXT, "new"), open_storage(RunDir(tmp_path)))
    (name, study) = next(iter(studies.by_name.items()))
    old = optuna.create_study(direction="maximize")
    distributions = {key: OLD[key] for key in values}
    old.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=50.0))
    assert [warm_start(studies, {name: old.trials}, "old") for _ in range(2)] == [added, 0]
    kept = {key: value for key, value in values.items() if key != "gone"}
    marks = [(t.params, t.value, t.user_attrs[MARK]) for t in study.trials()]
    assert marks == [(kept, 50.0, f"old/{name}/0")] * added
