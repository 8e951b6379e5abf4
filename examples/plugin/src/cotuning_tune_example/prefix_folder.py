"""Images whose class is the start of the file's name: ``train/blue_jay_07.jpg`` shows a ``blue_jay``.

The class ends at the last underscore. The folders are ``train`` and ``test``, and ``val`` if there is one.
"""

from dataclasses import dataclass
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import ENDINGS
from cotuning_tune.data import FileDataSet, Files
from cotuning_tune.hyper import hyper


class PrefixFolder(FileDataSet):
    """Raises UserError for a missing folder, and for an image of a class without training images."""

    layout = "root/train/CLASS_anything.jpg, root/test/CLASS_anything.jpg, optional root/val/"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder that holds train/ and test/; needed")

    @property
    def root(self) -> Path:
        """The folder as given."""
        if not self.config.root:
            raise UserError("prefix_folder needs its path: set root in its [data.NAME] table")
        return Path(self.config.root).expanduser().resolve()

    def names(self, split: str) -> list[str]:
        """The images of a split, relative to the root."""
        found = (path for path in sorted((self.root / split).glob("*")) if path.suffix.lower() in ENDINGS)
        return [path.relative_to(self.root).as_posix() for path in found]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({class_of(name) for name in self.names("train")}))

    def files(self, split: str) -> Files | None:
        names, classes = self.names(split), self.class_names
        if not names:
            if split == "val":
                return None
            raise UserError(f"{self.root} has no images in {split}/; its layout is {self.layout}")
        if strange := [name for name in names if class_of(name) not in classes]:
            raise UserError(f"{strange[0]} begins with no class of train/: {', '.join(classes)}")
        return Files(self.root, names, [classes.index(class_of(name)) for name in names])


def class_of(name: str) -> str:
    """The class in an image's name.

    >>> class_of("train/blue_jay_07.jpg")
    'blue_jay'
    """
    return Path(name).stem.rpartition("_")[0]
