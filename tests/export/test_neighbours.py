"""A model of nearest neighbours is exported as any other: it classifies from the folder alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cotuning_tune import cli
from cotuning_tune.base.errors import UserError
from cotuning_tune.export import FORMATS
from cotuning_tune.export.bundle import open_bundle
from cotuning_tune.export.predict import predictions
from cotuning_tune.export.torch_model import read_safetensors, rebuilt
from cotuning_tune.retrain import planned
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.training import TrainingJob
from tests.export.conftest import EXPERIMENT, retrain, write_search

STUDY = "clothes-1.00-knn"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, clothes: Path) -> RunDir:
    """A run of one study, retrained with one seed."""
    run = RunDir(tmp_path_factory.mktemp("runs") / "neighbours")
    write_search(run, EXPERIMENT.format(root=clothes).replace('["fine_tune", "co_tuning"]', '["knn"]'))
    retrain(run, (0,))
    return run


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_loaded_model_says_the_same(name: str, run: RunDir, clothes: Path, tmp_path: Path) -> None:
    """The probabilities of every test image are the tested model's, from a folder of its own, in each format."""
    out = tmp_path / name
    assert cli.main(["export", str(run.path), "--study", STUDY, "--format", name, "--out", str(out)]) == 0
    found = {p.path: p.probabilities_T for p in predictions(open_bundle(out), clothes) if p.path.startswith("test")}
    trainer = TrainingJob(planned(run, (0,))[0].spec).trainer
    trainer.model.load_state_dict(read_safetensors(run.study(STUDY).retrain(0).model.read_bytes()))
    trainer.model.eval()
    split = trainer.task.open_test()
    with torch.no_grad():
        expected = trainer._logits(split.stored(range(len(split))), "centre").softmax(1).numpy()
    assert found.keys() == set(split.names)
    np.testing.assert_allclose([found[path] for path in split.names], expected, atol=1e-4)
    assert len(set(expected.argmax(1))) == 3


def test_weights_that_lack_something(run: RunDir) -> None:
    """Without the labels they fit no backbone, in one line."""
    weights = read_safetensors(run.study(STUDY).retrain(0).model.read_bytes())
    target = {key: value for key, value in weights.items() if not key.startswith("source_head.")}
    assert rebuilt("tiny_cnn", target).head.k == 20
    for lost in ("head.labels_N", "head.features_ND"):
        with pytest.raises(UserError, match=f"the weights do not fit tiny_cnn: .*{lost}"):
            rebuilt("tiny_cnn", {key: value for key, value in target.items() if key != lost})
