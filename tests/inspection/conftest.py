"""A data set of the tests' own: image files that a list names, with published counts."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cotuning_tune.data import images

Answer = tuple[int, list[str], list[str]]
Call = Callable[..., Answer]
WriteImage = Callable[..., Path]
SOURCE = '''\
"""Birds of the tests: a list names the files."""
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from cotuning_tune.data import FileDataSet, Files
from cotuning_tune.base.errors import UserError
from cotuning_tune.hyper import hyper


class Listed(FileDataSet):
    """Lines of list.txt: split, file, class number."""

    page = "https://example.org/birds"
    layout = """
        DIR/list.txt    split file class
        DIR/images/     the files
    """
    counts = MappingProxyType({"classes": 2, "train": 6, "test": 2})

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True)

    @property
    def class_names(self):
        return tuple((Path(self.config.root) / "classes.txt").read_text().split())

    def files(self, split):
        root = Path(self.config.root)
        if not (root / "list.txt").is_file():
            raise UserError(f"{root} has no list.txt")
        rows = [line.split() for line in (root / "list.txt").read_text().splitlines()]
        mine = [row for row in rows if row[0] == split]
        return Files(root, [row[1] for row in mine], [int(row[2]) for row in mine]) if mine else None
'''


@pytest.fixture
def new_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """``new_kind(name, source)`` drops a data set in; it is gone after the test."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    monkeypatch.setattr(images, "__path__", [*images.__path__, str(folder)])
    made = []

    def make(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)
        made.append(f"{images.__name__}.{name}")

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def listed(tmp_path: Path, new_kind: Callable[[str, str], None], write_image: WriteImage) -> Path:
    """The folder of a complete set of the kind ``listed``: 2 classes, 6 training and 2 test images."""
    new_kind("listed", SOURCE)
    root, lines = tmp_path / "birds", []
    for number in range(8):
        split, name = "train" if number < 6 else "test", f"images/{number}.jpg"
        write_image(root / name, number, side=(48, 40))
        lines.append(f"{split} {name} {number % 2}\n")
    (root / "list.txt").write_text("".join(lines))
    (root / "classes.txt").write_text("wren\nowl\n")
    return root
