"""Experiments to plan, and a data set of which only the published counts are there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotuning_tune.data import images

ABSENT = '''"""A data set that nobody has."""

from dataclasses import dataclass

from cotuning_tune.data.images._files import FileDataSet
from cotuning_tune.base.errors import UserError


class Absent(FileDataSet):
    """Three classes, 7 images to train, 5 to test."""

    page = "https://example.org/absent"
    layout = """
    absent/ with list.txt
      list.txt  a name a line
    """
    counts = {"classes": 3, "train": 7, "test": 5}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = ""

    @property
    def class_names(self):
        raise UserError("get it first")

    def files(self, part):
        raise UserError("get it first")
'''


def experiment_text(
    task: str = "synthetic",
    methods: tuple[str, ...] = ("fine_tune",),
    rates: tuple[float, ...] | list[float] = (1.0,),
    **experiment: object,
) -> str:
    """An experiment on 8 px images: 2 trials of 3 epochs in batches of 10, seeds 0 to 2."""
    given = {"tasks": [task], "methods": list(methods), "rates": list(rates), "backbone": "tiny_cnn", "trials": 2}
    given["validate"] = "each"
    lines = [f"{key} = {json.dumps(value)}" for key, value in (given | experiment).items()]
    made = "[data.synthetic]\nclasses = 3\nimages = 10\n" if task == "synthetic" else ""
    head = "[experiment]\n" + "\n".join(lines)
    return f"{head}\n[task]\nsize = 8\nresize = 8\n[train]\nepochs = 3\nbatch_size = 10\n{made}"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a data set that is missing, with published counts."""
    folder = tmp_path / "data_sets"
    folder.mkdir()
    (folder / "absent.py").write_text(ABSENT)
    monkeypatch.setattr(images, "__path__", [*images.__path__, str(folder)])
    yield "absent"
    import sys

    sys.modules.pop("cotuning_tune.data.images.absent", None)
    vars(images).pop("absent", None)
