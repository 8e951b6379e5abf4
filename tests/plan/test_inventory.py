"""The images that a plan counts are those that training will see."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune import data
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.plan.inventory import cache_bytes, take_inventory
from tests.plan.conftest import experiment_text


def planned(text: str, base: Path = Path()) -> Experiment:
    return parse(text, "made", base)


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
def test_counts_of_data_in_memory(rate: float) -> None:
    """At each rate a plan counts the images that the opened task has."""
    experiment = planned(experiment_text(rates=[rate]))
    splits = take_inventory(experiment, "synthetic").at(rate, TaskConfig(size=8, resize=8))
    task = open_task("synthetic", rate, TaskConfig(size=8, resize=8), {"classes": 3, "images": 10})
    assert (splits.train, splits.val, splits.test) == (len(task.train), len(task.val), 30)


def test_no_image_for_validation() -> None:
    """Where each class keeps a single image a plan refuses what the search would refuse."""
    inventory = take_inventory(planned(experiment_text()), "synthetic")
    with pytest.raises(UserError, match=r"synthetic at 10 %: there is no image for validation"):
        inventory.at(0.1, TaskConfig(size=8, resize=8))


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test"), ()], ids=str)
def test_counts_of_image_files(image_folder: Callable[..., Path], splits: tuple[str, ...]) -> None:
    """Files are counted by name, nothing is decoded; published validation splits count as they are."""
    root = image_folder(splits, count=10)
    for image in root.rglob("*.jpg"):
        image.write_text(f"not an image: {image}")
    text = experiment_text(task="mine") + f'[data.mine]\nformat = "image_folder"\nroot = "{root}"\n'
    inventory = take_inventory(planned(text), "mine")
    found = inventory.at(0.5, TaskConfig(size=8, resize=8))
    expected = {2: (8, 2, 20), 3: (10, 20, 20), 0: (6, 2, 4)}[len(splits)]
    assert (found.train, found.val, found.test) == expected
    assert cache_bytes(planned(text), inventory) == {2: 40, 3: 60, 0: 20}[len(splits)] * 3 * 8 * 8


def test_published_counts_where_the_data_is_missing(published: str) -> None:
    """Without the data the classes share the published number of images: 3, 2 and 2 of 7; half: 2, 1, 1."""
    experiment = planned(experiment_text(task=published))
    inventory = take_inventory(experiment, published)
    assert (inventory.classes, inventory.images, inventory.missing) == (3, 12, "get it first")
    found = inventory.at(0.5, TaskConfig(size=8, resize=8))
    assert (found.train, found.val, found.test) == (3, 1, 5)


def test_nothing_is_known() -> None:
    """Without data and without published counts no plan can be made, and the reason is told."""
    text = experiment_text(task="mine") + '[data.mine]\nformat = "image_folder"\nroot = "/no/such"\n'
    with pytest.raises(UserError, match=r"mine: its size is not known.*/no/such"):
        take_inventory(planned(text), "mine")


@pytest.mark.parametrize(
    ("kind", "rate", "images"),
    [("cub200", 0.15, 1000), ("cub200", 0.5, 3000), ("fgvc_aircraft", 0.15, 1067), ("fgvc_aircraft", 0.3, 2067)],
)
def test_the_papers_numbers(kind: str, rate: float, images: int) -> None:
    """Training plus validation images of a missing data set are the paper's numbers of images at that rate."""
    if kind not in data.names():
        pytest.skip(f"this version has no data set {kind}")
    text = experiment_text(task=kind) + f'[data.{kind}]\nroot = "/no/such"\n'
    found = take_inventory(planned(text), kind).at(rate, TaskConfig())
    assert found.train + found.val == images
