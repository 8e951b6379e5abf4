"""Your own images: ``train/CLASS/*.jpg``, ``test/CLASS/*.jpg``, optional ``val/``; or one folder of classes.

A folder without ``train`` holds the classes themselves; a fixed share of each, chosen by the hash of
the file names, then becomes the test split.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import ENDINGS
from cotuning_tune.data._files import FileDataSet, Files
from cotuning_tune.data.images._lists import own_split
from cotuning_tune.hyper import hyper


class ImageFolder(FileDataSet):
    """Images in a folder a class. Raises UserError for a missing folder, an empty class, a broken file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder; needed")
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there is no train/")
        split_seed: int = hyper(0, doc="of the test share")

    def __init__(self, config: Config, stored_size: int) -> None:
        super().__init__(config, stored_size)
        if not config.root:
            raise UserError("an image folder needs its path: set root in its [data.NAME] table")
        if not 0 < config.test_fraction < 1:
            raise UserError(f"test_fraction = {config.test_fraction:g} must be above 0 and below 1")
        self.root = Path(config.root).expanduser().resolve()
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root} (root of an image folder)")
        if self._parted and not (self.root / "test").is_dir():
            raise UserError(f"{self.root} has train/ but no test/: add it, or give a folder of classes")
        if self._parted:
            self._files("test")  # names only: a wrong folder shall not show after the search

    @property
    def _parted(self) -> bool:
        return (self.root / "train").is_dir()

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        base = self.root / "train" if self._parted else self.root
        found = tuple(sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith(".")))
        if len(found) < 2:
            raise UserError(f"{base} holds {len(found)} class folder(s); two or more are needed")
        return found

    def _files(self, split: str) -> tuple[list[str], list[int]]:
        base = self.root / split
        strange = {p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith(".")}
        if extra := sorted(strange - set(self.class_names)):
            raise UserError(f"{base} has the class '{extra[0]}' that train/ lacks")
        files, labels = [], []
        for label, name in enumerate(self.class_names):
            folder = base / name
            found = sorted(folder.rglob("*")) if folder.is_dir() else []
            known = [p for p in found if p.suffix.lower() in ENDINGS and not p.name.startswith(".")]
            images = [str(p.relative_to(self.root)) for p in known]
            if not images and split != "val":
                raise UserError(f"class folder {folder} holds no readable image (known: {' '.join(ENDINGS)})")
            files += images
            labels += [label] * len(images)
        return files, labels

    @cached_property
    def _own_split(self) -> dict[str, Files]:
        return own_split(Files(self.root, *self._files(".")), self.config.test_fraction, self.config.split_seed)

    def files(self, split: str) -> Files | None:
        if not self._parted:
            return self._own_split.get(split)
        if split == "val" and not (self.root / "val").is_dir():
            return None
        return Files(self.root, *self._files(split))
