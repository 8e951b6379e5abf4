"""Nearest neighbours: the votes against scikit-learn's, whose features they are, and that nothing moves."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from cotuning_tune.base.errors import UserError
from cotuning_tune.methods.knn import NearestNeighbours
from cotuning_tune.models import NeighbourHead, pretrained
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob
from tests.methods.test_conformance import spec_of, trainer_of, without_clock


@pytest.mark.parametrize("k", [1, 7, 60])
def test_votes_are_those_of_scikit_learn(k: int) -> None:
    """Weights exp(similarity / T) over the k nearest; one vote more, of their mean weight, is for all classes alike."""
    draws = np.random.default_rng(0)
    train, test, labels = draws.normal(size=(60, 5)), draws.normal(size=(20, 5)), draws.integers(0, 4, 60)
    head = NeighbourHead(60, 5, 4, k, 0.2).double()
    head.fill(torch.from_numpy(train), torch.from_numpy(labels))
    found = head(torch.from_numpy(test))
    reference = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.2), metric="cosine").fit(train, labels)
    share = reference.predict_proba(test)
    np.testing.assert_allclose(found.exp().numpy(), (k * share + 0.25) / (k + 1), rtol=1e-6)
    assert found.argmax(1).tolist() == share.argmax(1).tolist()


def test_more_neighbours_than_images() -> None:
    """All vote then."""
    train, labels, test = torch.randn(3, 2), torch.tensor([0, 1, 1]), torch.randn(4, 2)
    heads = [NeighbourHead(3, 2, 2, k, 0.1) for k in (3, 200)]
    for head in heads:
        head.fill(train, labels)
    assert heads[0](test).equal(heads[1](test))


@pytest.mark.parametrize("train_on", ["train", "trainval"])
def test_the_head_knows_what_others_train_on(train_on: str) -> None:
    """The pre-trained network's features of the un-augmented images: of the validation split too where that is trained
    on, else not; each image is its own nearest neighbour."""
    spec = spec_of("knn", config={"k": 1})
    job = TrainingJob(type(spec)(**spec.to_json() | {"task_config": spec.task_config | {"train_on": train_on}}))
    trainer = job.trainer
    task, head = trainer.task, trainer.model.head
    assert len(head.labels_N) == len(task.fit) == 24 + 6 * (train_on == "trainval")
    images, labels = next(task.plain_batches(task.fit, 64))
    with torch.no_grad():
        features = pretrained("tiny_cnn").backbone.eval()(images)[0]
    torch.testing.assert_close(head.features_ND, features / features.norm(dim=1, keepdim=True))
    assert head.labels_N.equal(labels)
    assert trainer.evaluate(task.fit).value == 100.0


@pytest.mark.parametrize("length", [{"epochs": 3}, {"epochs": 1, "iterations": 8, "interval": 3}])
def test_an_epoch_is_a_validation(length: dict[str, int], tmp_path) -> None:
    """As many rows as any method has, all the same, whatever the rates are; no weight and no statistic moves."""
    job = TrainingJob(spec_of("knn", **length, **{"optim/lr": 0.1, "ema": 0.5}), TrialDir(tmp_path), keep_best=True)
    other = TrainingJob(spec_of("fine_tune", **length))
    before = {key: value.clone() for key, value in job.trainer.model.state_dict().items()}
    while not job.finished:
        job.advance()
        other.advance()
    rows = without_clock(job.history)
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in other.history] == [1, 2, 3]
    assert all(row == rows[0] | {"epoch": row["epoch"], "lr": 0.0} for row in rows)
    assert (job.trainer.step, job.trainer.epoch) == (other.trainer.step, other.trainer.epoch)
    job.load_best()
    assert all(value.equal(before[key]) for key, value in job.trainer.network.state_dict().items())


def test_k_is_what_counts() -> None:
    """Another k gives another validation loss, another learning rate or seed the same."""
    found = [
        trainer.evaluate(trainer.task.val).loss
        for trainer in (
            trainer_of("knn", config={"k": 3}),
            trainer_of("knn", config={"k": 9}),
            trainer_of("knn", config={"k": 3}, seed=1, **{"optim/lr": 1.0}),
        )
    ]
    assert found[0] != found[1]
    assert found[0] == found[2]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"k": 0}, "methods.knn.k = 0: at least 1 is needed"),
        ({"temperature": 0.0}, "methods.knn.temperature = 0.0: at least 0.001 is needed"),
    ],
)
def test_values_that_mean_nothing(config: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as refused:
        NearestNeighbours.Config(**config)
    assert str(refused.value) == words
