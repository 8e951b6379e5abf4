"""The published data sets, read from small copies in their owners' layout."""

from pathlib import Path

import pytest
import torch

from cotuning_tune.data import TaskConfig, open_task
from tests.data.miniatures import COLOURS, MINIATURES

SMALL = TaskConfig(size=8, resize=8)


def labels_by_colour(split) -> list[int]:
    colours_BC = split.stored(range(len(split))).double().mean((2, 3))
    return torch.cdist(colours_BC, torch.tensor(COLOURS).double()).argmin(1).tolist()


@pytest.mark.parametrize("kind", MINIATURES)
def test_opens(kind: str, tmp_path: Path) -> None:
    """Opens."""
    task = open_task("it", 1.0, SMALL, MINIATURES[kind](tmp_path, 0), kind)
    for split in (task.train, task.val, task.open_test()):
        assert labels_by_colour(split) == split.labels_N.tolist()
    print(task.class_names, len(task.train), len(task.val))
