"""Data sets that torchvision can download: it fetches them, their owners' lists are read here."""

import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

from cotuning_tune.base.cache import cache_folder, cache_root, only_one
from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.walk import sub_folders, walk
from cotuning_tune.data._data_set import DataSet
from cotuning_tune.data.images._files import Files
from cotuning_tune.data.images._lists import own_split
from cotuning_tune.data.images._published import Published, Rows, unlike
from cotuning_tune.hyper import hyper

TROUBLE = (OSError, RuntimeError, ValueError, EOFError, HTTPException, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class FetchedConfig:
    """Where the set lies, and whether it may be downloaded."""

    root: str = hyper("", path=True, doc="folder of the set; default: the cache folder")
    download: bool = hyper(False, doc="fetch it where it is missing")


@dataclass(frozen=True, kw_only=True)
class UnpartedConfig(FetchedConfig):
    """As above, for a set whose owners publish no test split."""

    test_fraction: float = hyper(0.2, doc="share of each class to test")
    split_seed: int = hyper(0, doc="of the test share")


def download_root(config: FetchedConfig) -> Path:
    """The folder into which torchvision puts its own: ``root``, or the cache's."""
    return Path(config.root).expanduser().resolve() if config.root else cache_root() / "downloads"


def fetch(kind: type[DataSet], fetcher: str, config: FetchedConfig) -> None:
    """Download a set by torchvision's class of that name; processes that ask at once wait for the first.

    Raises UserError with the reason, the owners' page and their layout where that fails.
    """
    from torchvision import datasets

    root = download_root(config) if config.root else cache_folder("downloads")
    try:
        with only_one(root / fetcher):
            getattr(datasets, fetcher)(str(root), download=True)
    except TROUBLE as problem:
        raise unlike(kind, f"it cannot be fetched into {root} ({first_line(problem)})") from None


class Fetched(Published):
    """A published set with a class in torchvision, ``fetcher``, which downloads it into ``root``."""

    Config = FetchedConfig
    fetches = True
    fetcher: ClassVar[str] = ""

    @classmethod
    def given_root(cls, config: Any) -> Path:
        return download_root(config)

    @classmethod
    def download(cls, config: Any) -> None:
        fetch(cls, cls.fetcher, config)

    def _find_root(self) -> Path:
        try:
            return super()._find_root()
        except UserError:
            if not self.config.download:
                raise
        self.download(self.config)
        return super()._find_root()


class Unparted(Fetched):
    """A set in a folder a class with no published test split: a fixed share of each class, by its names' hash."""

    Config = UnpartedConfig

    def class_rows(self, folders: Sequence[str]) -> Rows:
        """The images of each class folder, in order."""
        rows: Rows = []
        for label, folder in enumerate(folders):
            if not (self.root / folder).is_dir():
                raise self.wrong(f"has no folder {folder}")
            rows += [(name, label) for name in walk(self.root / folder).below(folder).images]
        return rows

    def split(self, rows: Rows) -> dict[str, Rows]:
        """Training and test split."""
        whole = Files(self.root, [name for name, _ in rows], [label for _, label in rows])
        splits = own_split(whole, self.config.test_fraction, self.config.split_seed)
        return {split: list(zip(files.names, files.labels, strict=True)) for split, files in splits.items()}

    def sub_folders(self) -> list[str]:
        """The names of the class folders."""
        return [*sub_folders(self.root).values()]
