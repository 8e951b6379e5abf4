"""Trial 1 of a search: the published values with the method switched off, trained to the end."""

import json

import pytest
import torch

from cotuning_tune.experiment import Experiment, Study, parse
from cotuning_tune.search.space import first_points
from cotuning_tune.training import TrainingJob

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = {methods}
backbone = "tiny_cnn"
[task]
size = 16
resize = 16
[data.synthetic]
classes = 3
images = 20
[train]
epochs = 2
batch_size = 16
"""


def trained(experiment: Experiment, name: str, point: int) -> TrainingJob:
    """The training of a first point of a method, by the values that its trial has."""
    first = first_points(experiment.space(name))[point]
    values = {**first.values, **first.off}
    job = TrainingJob(experiment.spec(Study("synthetic", 1.0, name), values, experiment.config.search_seed))
    while not job.finished:
        job.advance()
    return job


@pytest.mark.parametrize("name", ["bi_tuning", "bss", "co_tuning", "lwf"])
def test_off_is_fine_tuning(name: str) -> None:
    """Accuracies, losses, backbone and head are those of fine-tuning's published trial, bit for bit."""
    experiment = parse(TEXT.format(methods=json.dumps(["fine_tune", name])), "off")
    assert first_points(experiment.space(name))[1].name == "off"
    plain, off = trained(experiment, "fine_tune", 0), trained(experiment, name, 1)
    for key in ("val_score", "val_loss", "train_ce", "train_accuracy", "lr"):
        assert [row[key] for row in off.history] == [row[key] for row in plain.history]
    for part in ("backbone", "head"):
        ours, theirs = (getattr(job.trainer.model, part).state_dict() for job in (off, plain))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize("name", ["bi_tuning", "bss", "co_tuning", "lwf"])
def test_on_is_not(name: str) -> None:
    """At its published weight a method ends at other weights than fine-tuning."""
    experiment = parse(TEXT.format(methods=json.dumps(["fine_tune", name])), "on")
    plain, on = trained(experiment, "fine_tune", 0), trained(experiment, name, 0)
    ours, theirs = (job.trainer.model.backbone.state_dict() for job in (on, plain))
    assert not all(torch.equal(value, theirs[key]) for key, value in ours.items())
