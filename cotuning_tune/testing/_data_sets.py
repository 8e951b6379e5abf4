"""What every data set must do, whatever it reads; it is tried on a small copy that its author writes."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import DataSet, Listing, TaskConfig, data_set, open_task
from cotuning_tune.hyper import build, to_flat
from cotuning_tune.training import TrainingJob, TrainingSpec

SIZE = 12


def open_set(kind: str, options: dict[str, Any], size: int = SIZE) -> DataSet:
    """A data set with options as an experiment file gives them."""
    found = data_set(kind)
    return found(build(found.Config, options), size)


def splits_of(data: DataSet) -> dict[str, Listing]:
    """The splits that a data set has, by name."""
    found = {"train": data.train(), "val": data.val(), "test": data.test()}
    return {name: listing for name, listing in found.items() if listing is not None}


def pixels_of(listing: Listing) -> torch.Tensor:
    """Every image of a split as it is stored."""
    return listing.examples.take(range(len(listing.names)))


class DataSetConformance:
    """Subclass it as ``class TestMine(DataSetConformance)``, with ``data_set = "mine"`` and ``write``.

    It is for images; of two at least of each class, in each split.
    """

    data_set: ClassVar[str]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write a small copy of the set into a folder; the options that open it."""
        raise NotImplementedError

    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[str, dict[str, Any]]:
        """Name and options of a small copy; a fixture of several in a subclass tries each."""
        return self.data_set, self.write(tmp_path)

    def test_labels_are_positions_among_the_classes(self, made: tuple[str, dict[str, Any]]) -> None:
        """Each class has a name of its own, and each image a name, and a class that there is; each class is trained."""
        data = open_set(*made)
        classes = data.class_names
        assert len(set(classes)) == len(classes) > 1
        for name, listing in splits_of(data).items():
            assert len(listing.names) == len(listing.labels) == len(listing.examples), name
            assert set(listing.labels) <= set(range(len(classes))), name
        assert set(data.train().labels) == set(range(len(classes)))

    def test_splits_are_disjoint(self, made: tuple[str, dict[str, Any]]) -> None:
        """No image is in two splits, by name and by content."""
        kind, options = made
        task = open_task("it", 1.0, TaskConfig(size=SIZE, resize=SIZE), options, kind)
        splits = (task.train, task.val, task.open_test())
        for keys in (
            [key for split in splits for key in split.names],
            [pixels.numpy().tobytes() for split in splits for pixels in split.stored(range(len(split)))],
        ):
            assert len(set(keys)) == sum(map(len, splits))

    def test_pixels_are_stored_as_asked(self, made: tuple[str, dict[str, Any]]) -> None:
        """Images are grey levels, three channels of the stored size; taking them gives a copy."""
        listing = open_set(*made).train()
        before = pixels_of(listing)
        assert before.shape == (len(listing.names), 3, SIZE, SIZE)
        assert before.dtype == torch.uint8
        pixels_of(listing).zero_()
        assert torch.equal(pixels_of(listing), before)

    def test_it_is_the_same_every_time(self, made: tuple[str, dict[str, Any]]) -> None:
        """Opened again it has the same names, labels and pixels under the same fingerprint: resuming relies on it."""
        one, other = (splits_of(open_set(*made)) for _ in range(2))
        for name, listing in one.items():
            assert list(listing.names) == list(other[name].names)
            assert list(listing.labels) == list(other[name].labels)
            assert listing.examples.fingerprint() == other[name].examples.fingerprint()
            assert torch.equal(pixels_of(listing), pixels_of(other[name]))

    def test_what_is_recorded_is_what_is_read(self, made: tuple[str, dict[str, Any]]) -> None:
        """The record of a run's data has each image of each split, in order."""
        data = open_set(*made)
        for name, listing in splits_of(data).items():
            contents = data.contents(name)
            assert contents is not None
            assert list(contents.names) == list(listing.names), name
            assert list(contents.labels) == list(listing.labels), name

    def test_every_image_is_checked(self, made: tuple[str, dict[str, Any]]) -> None:
        """``data verify`` finds nothing wrong with the small copy."""
        open_set(*made).check()

    def test_its_options_survive_json(self, made: tuple[str, dict[str, Any]]) -> None:
        """Options come back from a run's files as they were; an unknown one is refused."""
        kind, options = made
        config = data_set(kind).Config
        given = build(config, options)
        assert build(config, json.loads(json.dumps(to_flat(given)))) == given
        with pytest.raises(UserError, match="no_such_option"):
            build(config, {"no_such_option": 1})

    def test_it_is_trained_on(self, made: tuple[str, dict[str, Any]]) -> None:
        """An epoch of plain fine-tuning ends with a score of the validation split."""
        kind, options = made
        job = TrainingJob(
            TrainingSpec(
                task="it",
                format=kind,
                rate=1.0,
                method="fine_tune",
                backbone="tiny_cnn",
                seed=0,
                task_config={"size": 16, "resize": 16},
                data_options=options,
                train={"epochs": 1, "batch_size": 4},
            )
        )
        assert 0 <= job.advance()["val_score"] <= 100
