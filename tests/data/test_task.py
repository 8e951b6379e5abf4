"""A task: what is sampled, what is held out, and that neither hangs on any seed of a training."""

import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import ArrayImages, DataSet, Listing, Task, TaskConfig, open_task
from cotuning_tune.data._task import hold_out, sample
from cotuning_tune.data.images._images import PooledImages

# Published training images at 15, 30, 50 and 100 %, and images a class: (count of classes, images).
PUBLISHED = {
    "cub200": ([(6, 29), (194, 30)], (1000, 1800, 3000, 5994)),
    "aircraft": ([(33, 66), (67, 67)], (1067, 2067, 3367, 6667)),
}
SPLIT_ELSEWHERE = """
import json
from cotuning_tune.data import TaskConfig, open_task
task = open_task("synthetic", 0.7, TaskConfig(size=4, resize=4))
print(json.dumps([task.train.names, task.val.names]))
"""


def listing(counts: Sequence[int]) -> Listing:
    """So many images of each class, the classes mixed; an image's pixels are its position."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    np.random.default_rng(0).shuffle(labels)
    pixels = np.zeros((len(labels), 3, 4, 4), np.uint8) + np.arange(len(labels))[:, None, None, None]
    return Listing([f"image {n}" for n in range(len(labels))], labels, ArrayImages(pixels.astype(np.uint8)))


class FakeData(DataSet):
    """A data set of the given splits; remembers how often its test split was opened."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, train: Listing, val: Listing | None = None) -> None:
        super().__init__(self.Config(), 4)
        self.splits, self.opened = (train, val), 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"class {n}" for n in range(max(self.splits[0].labels) + 1))

    def train(self) -> Listing:
        return self.splits[0]

    def val(self) -> Listing | None:
        return self.splits[1]

    def test(self) -> Listing:
        self.opened += 1
        return listing([2, 2])


def make_task(counts: Sequence[int], rate: float = 1.0, **config: object) -> Task:
    return Task("t", FakeData(listing(counts)), rate, TaskConfig(size=4, resize=4, **config))


def per_class(labels: Sequence[int]) -> list[int]:
    counts = Counter(map(int, labels))
    return [counts[label] for label in sorted(counts)]


@pytest.mark.parametrize("rate", [0.01, 0.07, 0.15, 0.3, 0.5, 0.55, 0.99, 1.0])
def test_sampled_counts(rate: float) -> None:
    """Of a class with n images ceil(rate * n) are sampled, so of every class at least one."""
    counts = [1, 7, 20, 60, 100]
    kept = sample(listing(counts), rate, 0)
    expected = [math.ceil(round(rate * 100) * n / 100) for n in counts]
    assert per_class([listing(counts).labels[p] for p in kept]) == expected
    assert kept == sorted(set(kept))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    """The number of training images at each rate is the published one."""
    classes, published = PUBLISHED[name]
    found = listing([n for count, n in classes for _ in range(count)])
    assert tuple(len(sample(found, rate, 0)) for rate in (0.15, 0.3, 0.5, 1.0)) == published


def test_a_sample_holds_those_of_lower_rates() -> None:
    """The sample of a lower rate is part of the sample of every higher one."""
    found = listing([9, 20, 33])
    samples = [set(sample(found, rate, 0)) for rate in (0.05, 0.15, 0.3, 0.31, 0.5, 0.9, 1.0)]
    assert all(low <= high for low, high in itertools.pairwise(samples))
    assert len(samples[-1]) == 62


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_held_out_counts(fraction: float) -> None:
    """Of each class the rounded fraction is held out, at least one and never all."""
    counts = [2, 3, 5, 20, 97]
    found = listing(counts)
    train, held = hold_out(found, range(len(found.names)), fraction, 0)
    expected = [min(max(round(fraction * n), 1), n - 1) for n in counts]
    assert per_class([found.labels[p] for p in held]) == expected
    assert sorted(train + held) == list(range(len(found.names)))


def test_a_single_image_stays_in_training() -> None:
    """A class with one image has it in the training split."""
    task = make_task([1, 5])
    assert per_class(task.train.labels_N) == [1, 4]
    assert set(task.val.labels_N.tolist()) == {1}


def test_no_image_twice() -> None:
    """Training and validation split share no image and together are the sample."""
    task = make_task([20, 30], rate=0.5)
    train, val = set(task.train.names), set(task.val.names)
    assert train & val == set()
    assert len(train) + len(val) == len(task.train) + len(task.val) == 25
    assert len(val) == 5


def test_names_labels_and_pixels_belong_together() -> None:
    """After sampling and splitting each image still has its own name and label."""
    found = listing([20, 30])
    for split in (make_task([20, 30], 0.5).train, make_task([20, 30], 0.5).val):
        pixels = split.stored(range(len(split)))[:, 0, 0, 0].tolist()
        assert split.names == [found.names[p] for p in pixels]
        assert split.labels_N.tolist() == [found.labels[p] for p in pixels]


def test_a_published_validation_split_is_kept() -> None:
    """Where the data set brings a validation split it is taken whole, and nothing is split off."""
    task = Task("t", FakeData(listing([10, 10]), listing([3, 4])), 0.5, TaskConfig(size=4, resize=4))
    assert (len(task.train), len(task.val)) == (10, 7)


def test_the_split_follows_the_split_seed() -> None:
    """Another split seed gives another sample and another validation split; the same one the same."""
    splits = [make_task([20, 30], 0.5, split_seed=seed) for seed in (0, 0, 1)]
    assert splits[0].train.names == splits[1].train.names
    assert splits[0].val.names != splits[2].val.names
    assert set(splits[0].train.names + splits[0].val.names) != set(splits[2].train.names + splits[2].val.names)


def test_sampling_and_holding_out_are_unrelated() -> None:
    """Which images are held out does not follow from the order in which images are sampled."""
    found = listing([100])
    sampled = sample(found, 0.2, 0)
    assert sampled != hold_out(found, range(100), 0.2, 0)[1]


def test_global_generators_do_not_matter() -> None:
    """No global random generator changes the split, and opening a task leaves them as they were."""
    names = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        names.append(make_task([20, 30], 0.5).train.names)
        drawn = (torch.rand(1).item(), np.random.rand(), random.random())
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        assert drawn == (torch.rand(1).item(), np.random.rand(), random.random())
    assert names[0] == names[1]


def test_the_split_is_the_same_in_another_process() -> None:
    """Another process, with another hash seed, splits alike."""
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", SPLIT_ELSEWHERE]
    other = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    task = open_task("synthetic", 0.7, TaskConfig(size=4, resize=4))
    assert json.loads(other.stdout) == [task.train.names, task.val.names]


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_impossible_rates(rate: float) -> None:
    """A rate is above 0 and at most 1."""
    with pytest.raises(UserError, match="must be above 0"):
        make_task([5, 5], rate)


@pytest.mark.parametrize("rate", [1e-12, 1.0])
def test_nothing_to_validate_on(rate: float) -> None:
    """Where every class is left with a single image there is nothing to validate on, and it says so."""
    with pytest.raises(UserError, match="there is no image for validation"):
        make_task([1, 1] if rate == 1 else [5, 5], rate)


def test_every_class_keeps_an_image_at_any_rate() -> None:
    """However low the rate, one image of each class is sampled."""
    assert len(sample(listing([5, 7]), 1e-12, 0)) == 2


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"size": 0}, "task.size"),
        ({"size": 20, "resize": 10}, "task.size"),
        ({"val_fraction": 0.0}, "task.val_fraction"),
        ({"val_fraction": 1.0}, "task.val_fraction"),
        ({"min_scale": 0.0}, "task.min_scale"),
        ({"min_scale": 1.1}, "task.min_scale"),
    ],
)
def test_impossible_configs(values: dict[str, float], key: str) -> None:
    """Sizes and shares that make no task are refused by their key."""
    with pytest.raises(UserError) as caught:
        TaskConfig(**values)
    assert caught.value.key == key


def test_published_sizes() -> None:
    """Stored at 256, cut to 224, crops of 8 % to 100 %, 20 % held out: as published."""
    c = TaskConfig()
    assert (c.resize, c.size, c.min_scale, c.flip, c.val_fraction) == (256, 224, 0.08, True, 0.2)


def test_the_test_split_opens_only_when_asked() -> None:
    """Nothing that training or validation does opens the test split."""
    data = FakeData(listing([10, 10]))
    task = Task("t", data, 1.0, TaskConfig(size=4, resize=4))
    task.views.augmented(task.fit.stored(range(3)), torch.Generator())
    list(task.plain_batches(task.val, 2))
    task.fingerprint()
    assert data.opened == 0
    assert len(task.open_test()) == 4
    assert data.opened == 1


@pytest.mark.parametrize("batch_size", [1, 3, 16, 100])
def test_plain_batches_hold_every_image_once(batch_size: int) -> None:
    """Un-augmented batches go through a split once, in order, the last smaller batch included."""
    task = make_task([10, 10])
    images, labels = zip(*task.plain_batches(task.train, batch_size), strict=True)
    assert torch.equal(torch.cat(images), task.train.stored(range(16)))
    assert torch.equal(torch.cat(labels), task.train.labels_N)
    assert max(map(len, images)) == min(batch_size, 16)


def test_augmentation_follows_its_generator() -> None:
    """Augmented images depend on the given generator alone."""
    task = open_task("synthetic", 1.0, TaskConfig(size=6, resize=8))
    draws = [task.views.augmented(task.fit.stored(range(5)), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].shape == (5, 3, 6, 6)
    assert draws[0].dtype == torch.uint8


@pytest.mark.parametrize(
    "changed",
    [{"rate": 0.5}, {"split_seed": 1}, {"val_fraction": 0.3}, {"flip": False}, {"counts": [10, 11]}],
    ids=str,
)
def test_fingerprint(changed: dict[str, object]) -> None:
    """The fingerprint is the same for the same task and another one for any other."""
    plain = {"counts": [10, 10], "rate": 1.0}
    assert make_task(**plain).fingerprint() == make_task(**plain).fingerprint()
    assert make_task(**plain).fingerprint() != make_task(**(plain | changed)).fingerprint()


def named(counts: Sequence[int], prefix: str) -> Listing:
    """A listing whose names begin with a prefix."""
    found = listing(counts)
    return Listing([f"{prefix} {name}" for name in found.names], found.labels, found.examples)


def published_task(rate: float = 1.0, val: Sequence[int] = (3, 4), **config: object) -> Task:
    """A task whose data set publishes a validation split."""
    data = FakeData(named([10, 20], "train"), named(val, "val"))
    return Task("t", data, rate, TaskConfig(size=4, resize=4, **config))


@given(st.lists(st.integers(4, 30), min_size=1, max_size=4), st.sampled_from([0.3, 0.5, 1.0]), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_another_validation_split_of_the_same_sample(counts: list[int], rate: float, seed: int) -> None:
    """A ``val_seed`` leaves the sample and the counts of each class as they are, and draws alike each time."""
    plain, other, again = (make_task([1 + n for n in counts], rate, val_seed=s) for s in (0, seed, seed))
    assert sorted(plain.train.names + plain.val.names) == sorted(other.train.names + other.val.names)
    for one, two in ((plain.train, other.train), (plain.val, other.val)):
        assert per_class(one.labels_N) == per_class(two.labels_N)
    assert not set(other.train.names) & set(other.val.names)
    assert (again.train.names, again.val.names) == (other.train.names, other.val.names)


def test_validation_seeds_give_different_splits() -> None:
    """Of fifty images every one of five seeds holds others out; the split seed alone draws the sample."""
    splits = [frozenset(make_task([20, 30], val_seed=seed).val.names) for seed in (0, 1, 2, 1000, 1001)]
    assert len(set(splits)) == 5
    assert make_task([20, 30], 0.5, val_seed=1, split_seed=1).fingerprint() != (
        make_task([20, 30], 0.5, val_seed=1).fingerprint()
    )


@pytest.mark.parametrize("rate", [0.3, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 1000])
def test_another_split_in_place_of_a_published_one(rate: float, seed: int) -> None:
    """It is drawn from the images of both, of each class as many as published; the rate samples what is left."""
    plain, other = published_task(rate), published_task(rate, val_seed=seed)
    for one, two in ((plain.val, other.val), (plain.train, other.train)):
        assert per_class(one.labels_N) == per_class(two.labels_N)
    assert not set(other.val.names) & set(other.train.names)
    assert any(name.startswith("train") for name in other.val.names)
    again = published_task(rate, val_seed=seed)
    assert (again.val.names, again.train.names) == (other.val.names, other.train.names)
    assert other.val.names != published_task(rate, val_seed=seed + 1).val.names
    if rate == 1.0:
        assert sorted(other.val.names + other.train.names) == sorted(plain.val.names + plain.train.names)
    else:
        whole = published_task(1.0, val_seed=seed)
        assert set(other.train.names) < set(whole.train.names)
        assert other.val.names == whole.val.names


def test_pooled_images_keep_their_labels_and_pixels() -> None:
    """An image drawn from the pool of two splits has the pixels and the label of its own listing."""
    parts = {"train": named([10, 20], "train"), "val": named([3, 4], "val")}
    task = published_task(val_seed=3)
    for split in (task.train, task.val):
        pixels = split.stored(range(len(split)))[:, 0, 0, 0].tolist()
        for name, label, pixel in zip(split.names, split.labels_N.tolist(), pixels, strict=True):
            part = parts[name.partition(" ")[0]]
            assert (part.names[pixel], part.labels[pixel]) == (name, label)


@given(st.integers(0, 4), st.integers(0, 4), st.data())
@settings(deadline=None)
def test_pooled_images_in_any_order(one: int, other: int, data: st.DataObject) -> None:
    """Images of two collections come in the order asked for, whichever of both they lie in."""
    pixels = np.arange(one + other, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8)
    pooled = PooledImages(ArrayImages(pixels[:one]), ArrayImages(pixels[one:]))
    assert len(pooled) == one + other
    asked = data.draw(st.lists(st.integers(0, one + other - 1), max_size=6)) if one + other else []
    assert pooled.take(asked)[:, 0, 0, 0].tolist() == asked


@pytest.mark.parametrize("make", [lambda **c: make_task([20, 30], 0.5, **c), published_task], ids=["split off", "own"])
def test_every_label_is_trained_on(make: Callable[..., Task]) -> None:
    """With ``trainval`` training sees the images of both splits, each once with its label; without it the first's."""
    plain, every = make(), make(train_on="trainval")
    assert plain.fit is plain.train
    assert every.fit.names == plain.train.names + plain.val.names
    assert len(set(every.fit.names)) == len(every.fit)
    assert torch.equal(every.fit.labels_N, torch.cat([plain.train.labels_N, plain.val.labels_N]))
    stored = torch.cat([part.stored(range(len(part))) for part in (plain.train, plain.val)])
    assert torch.equal(every.fit.stored(range(len(every.fit))), stored)
