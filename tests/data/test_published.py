"""The published data sets, read from small copies in their owners' layout."""

from pathlib import Path

import pytest
import torch

from cotuning_tune.data import Split, TaskConfig, open_task
from tests.data.miniatures import COLOURS, MINIATURES, VARIANTS

SMALL = TaskConfig(size=8, resize=8)
ALL = {kind: (kind, write) for kind, write in MINIATURES.items()} | VARIANTS


def labels_by_colour(split: Split) -> list[int]:
    colours_BC = split.stored(range(len(split))).double().mean((2, 3))
    return torch.cdist(colours_BC, torch.tensor(COLOURS).double()).argmin(1).tolist()


@pytest.mark.parametrize("name", ALL)
def test_opens(name: str, tmp_path: Path) -> None:
    """Opens."""
    kind, write = ALL[name]
    task = open_task("it", 1.0, SMALL, write(tmp_path, 0), kind)
    for split in (task.train, task.val, task.open_test()):
        assert labels_by_colour(split) == split.labels_N.tolist()
