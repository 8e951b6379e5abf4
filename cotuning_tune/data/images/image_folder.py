"""Your own images: ``train/CLASS/*.jpg``, ``test/CLASS/*.jpg``, optional ``val/``; or one folder of classes.

The parts have any of the usual names, in any case (``NAMES``). A folder without them holds the classes themselves; a
fixed share of each, chosen by the hash of the file names, then becomes the test split. A zip archive of such a folder
is unpacked once, into the cache.
"""

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import ENDINGS
from cotuning_tune.base.unpack import LINK, unpack_zip
from cotuning_tune.base.walk import Walk, beside, is_debris, sub_folders, together, told, walk
from cotuning_tune.data.images._files import SPLITS, FileDataSet, Files
from cotuning_tune.data.images._lists import NAMES, SPLIT_OF, own_split
from cotuning_tune.hyper import hyper

OTHERS = {  # data sets for folders that one may take for an image folder, by the ends of names in them
    "hf_imagefolder": ("metadata.csv", "metadata.jsonl", "metadata.parquet"),
    "hf_dataset": ("dataset_dict.json", "state.json"),
    "coco_classification": (".coco.json",),
    "webdataset": (".tar",),
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The folders of the splits, where they have other names."""

    train: str = hyper("", doc="folder of the training split (default: train, training)")
    val: str = hyper("", doc="folder of the validation split (default: val, valid, validation, dev)")
    test: str = hyper("", doc="folder of the test split (default: test, testing)")


class ImageFolder(FileDataSet):
    """Images in a folder a class. Raises UserError for a missing folder, an empty class, a broken file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder, or a zip archive of it; needed")
        splits: Parts = field(default_factory=Parts)
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there is no train/")
        split_seed: int = hyper(0, doc="of the test share")

    def __init__(self, config: Config, stored_size: int) -> None:
        super().__init__(config, stored_size)
        if not config.root:
            raise UserError("an image folder needs its path: set root in its [data.NAME] table")
        if not 0 < config.test_fraction < 1:
            raise UserError(f"test_fraction = {config.test_fraction:g} must be above 0 and below 1")
        self.root = self.given = Path(config.root).expanduser().resolve()
        self._links: list[str] = []
        self._archive = self.root.suffix.lower() == ".zip" and self.root.is_file()
        if self._archive:
            self._unpack()
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root} (root of an image folder)")
        if self._parts:
            self.files("test")  # names only: a wrong folder shall not show after the search

    def _unpack(self) -> None:
        """Take the archive's files for the folder; a single folder that wraps all others is entered."""
        found = unpack_zip(self.given)
        self.root, self._links = found.root, found.record
        inside = [name for name in os.listdir(self.root) if not is_debris(name)]  # noqa: PTH208 - names are wanted
        if len(inside) == 1 and inside[0].lower() not in SPLIT_OF and (self.root / inside[0]).is_dir():
            self.root, self.given = self.root / inside[0], self.given / inside[0]

    def _shown(self, folder: Path) -> Path:
        """A folder as the user knows it: of an archive, with the archive's path."""
        return self.given / folder.relative_to(self.root)

    @cached_property
    def _parts(self) -> dict[str, str]:
        """The folder of each split; none where the folder holds the classes themselves."""
        composed = sub_folders(self.root)
        there = list(composed.values())
        given = {split: name for split, name in vars(self.config.splits).items() if name}
        named = {split: composed.get(unicodedata.normalize("NFC", name), name) for split, name in given.items()}
        if twice := [name for name, count in Counter(named.values()).items() if count > 1]:
            raise UserError(f"splits names {twice[0]} twice: a folder belongs to one split")
        if missing := [name for name in named.values() if name not in there]:
            raise UserError(f"{self.given} has no folder {missing[0]} (splits); there are: {', '.join(there)}")
        known = {split: [name for name in there if name.lower() in NAMES[split]] for split in SPLITS}
        for split, names in known.items():
            if len(names) > 1 and split not in named:
                raise self._ask(f"{' and '.join(names)} may both be the {split} split")
        found = {split: names[0] for split, names in known.items() if names} | named
        if not found:
            return {}
        if rest := sorted(set(there) - set(found.values())):
            raise self._ask(f"{', '.join(found.values())} may be splits, but what is {rest[0]}")
        if lacking := [split for split in ("train", "test") if split not in found]:
            raise self._ask(f"there is {', '.join(found.values())}, but no {lacking[0]} split")
        return found

    def _ask(self, problem: str) -> UserError:
        return UserError(
            f'{self.given}: {problem}: say splits = {{ train = "FOLDER", test = "FOLDER" }} in its [data.NAME] table,'
            " or give a folder that holds nothing but classes"
        )

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        base = self.root / self._parts.get("train", "")
        found = tuple(sub_folders(base))
        if len(found) < 2:
            few = f"{self._shown(base)} holds {len(found)} class folder(s); two or more are needed"
            raise UserError(few + self._other(base))
        return found

    def _other(self, base: Path) -> str:
        """What else reads the folder, where something in it says so."""
        for folder in (self.root, base):
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted
            for reader, known in OTHERS.items():
                if there := [name for name in names if name.lower().endswith(known)]:
                    packed = ", unpacked" if self._archive else ""
                    return f"; there is {there[0]}: the data set {reader} reads it{packed}"
        return ""

    def _files(self, split: str) -> Files:
        """The images of a split; '' of the folder without splits."""
        part = self._parts.get(split, "")
        base, start = self.root / part, f"{part}/" if part else ""
        there = sub_folders(base)
        if extra := sorted(set(there) - set(self.class_names)):
            raise UserError(f"{self._shown(base)} has the class '{extra[0]}' that {self._parts['train']}/ lacks")
        if missing := [name for name in self.class_names if name not in there and split != "val"]:
            raise UserError(f"{self._shown(base)} has no folder of the class '{missing[0]}'")
        walks = {name: walk(base / folder).below(start + folder) for name, folder in there.items()}
        for name, one in walks.items():
            if not one.images and split != "val":
                raise UserError(f"class folder {self._shown(base / name)} holds no image ({_instead(one)})")
        labels = [label for label, name in enumerate(self.class_names) for _ in walks.get(name, Walk()).images]
        rest = beside(base).below(part) if part else beside(base)
        outer = [beside(self.root)] if part == self._parts.get("train") else []
        whole = together([*(walks[name] for name in self.class_names if name in walks), rest, *outer])
        return Files(self.root, whole.images, labels, whole.passed)

    def whole(self) -> Files | None:
        """All images of a folder without splits, none of them opened; None of one that has splits."""
        return None if self._parts else self._files("")

    @cached_property
    def _splits(self) -> dict[str, Files]:
        if self._parts:
            return {split: self._files(split) for split in self._parts}
        return own_split(self._files(""), self.config.test_fraction, self.config.split_seed)

    def not_taken(self) -> list[str]:
        links = {LINK: self._links} if self._links else {}
        return [*super().not_taken(), *told(links)]

    def files(self, split: str) -> Files | None:
        return self._splits.get(split)


def _instead(walk: Walk) -> str:
    """What is there in the place of images."""
    if not walk.passed:
        return "it is empty"
    reason, names = next(iter(walk.passed.items()))
    return f"{names[0].rpartition('/')[2]} is {reason}; known: {' '.join(ENDINGS)}"
