"""The curve of the best accuracy so far, by trials that have ended."""

import pytest
from optuna.storages import InMemoryStorage

from cotuning_tune.experiment import parse
from cotuning_tune.search.curves import best_curve
from cotuning_tune.search.study import OptunaStudy, Studies
from tests.boards import EXPERIMENT
from tests.search.ends import complete, fail, prune


@pytest.fixture
def study(tmp_path) -> OptunaStudy:
    text = EXPERIMENT.format(methods='["bss"]').replace("trials = 5", "trials = 6")
    experiment = parse(text, "made", tmp_path)
    return next(iter(Studies(experiment, InMemoryStorage()).by_name.values()))


def test_the_order_is_that_of_the_ends(study: OptunaStudy) -> None:
    """Trials that failed or were stopped are counted, and raise nothing; a running one is not there yet."""
    numbers = [study.issue().number for _ in range(6)]
    assert best_curve(study) == []
    fail(study, numbers[1], "nan")
    complete(study, numbers[3], 50.0, seconds=1.0)
    study.report(numbers[0], [{"epoch": 1, "val_score": 90.0}])
    prune(study, numbers[0], accuracy=90.0, seconds=1.0)
    complete(study, numbers[2], 70.0, seconds=1.0)
    complete(study, numbers[4], 60.0, seconds=1.0)
    found = best_curve(study)
    assert [point[:2] for point in found] == [(2, 50.0), (3, 50.0), (4, 70.0), (5, 70.0)]
    assert [point[2] for point in found] == sorted(point[2] for point in found)
