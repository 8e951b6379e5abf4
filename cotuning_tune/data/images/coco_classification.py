"""Classes in COCO's JSON: images, annotations and categories, where every image shows one category.

A file a split, as Roboflow writes them (``train/_annotations.coco.json``) or COCO itself
(``annotations/instances_train2017.json``); of one file a share of each class becomes the test split. Boxes and masks do
not count: whole images are classified.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import leaves
from cotuning_tune.base.walk import is_debris
from cotuning_tune.data.images._lists import UNUSED, Content, ListedImages, Patterns, Row, by_split, needed
from cotuning_tune.hyper import hyper

SEVERAL, NONE = "an image of several categories", "an image without an annotation"


class CocoClassification(ListedImages):
    """Images with one category each. Classes have the order of the categories' numbers.

    Raises UserError for a file that is not COCO's JSON, for numbers that nothing has, and for an image of several
    categories, unless ``several`` is ``skip``: these are not taken then, and told.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder of annotations and images; needed")
        images: str = hyper("", path=True, doc="folder that the file names start at; default: found below root")
        several: Literal["refuse", "skip"] = hyper("refuse", doc="images of several categories")
        splits: Patterns = field(default_factory=Patterns)
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there is one file")
        split_seed: int = hyper(0, doc="of the test share")

    layout = """
    a folder with train/_annotations.coco.json, train/*.jpg, valid/..., test/...
      or annotations/instances_train.json, annotations/instances_test.json, and the images in train/, test/ or images/
    """

    @property
    def where(self) -> Path:
        return Path(self.config.root).expanduser().resolve()

    def read(self) -> Content:
        root = needed(self.config.root, "a folder of COCO's JSON")
        if not root.is_dir():
            raise UserError(f"{root} is not a folder (root of COCO's JSON)")
        below = [path.relative_to(root) for path in sorted(root.rglob("*.json"))]
        names = [path.as_posix() for path in below if not any(map(is_debris, path.parts))]
        if not names:
            raise UserError(
                f"{root} has no .json file: annotations/instances_train.json, or train/_annotations.coco.json"
            )
        splits, unused = by_split(root, names, self.config.splits)
        found = list(splits.values())
        if twice := [name for name in splits if found.count(splits[name]) > 1]:
            raise UserError(
                f"{root}: {' and '.join(twice[:2])} may both be the annotations: say"
                ' splits = { train = "FILE", test = "FILE" } in its [data.NAME] table'
            )
        base = needed(self.config.images, "COCO's JSON", "images") if self.config.images else root
        rows: list[Row] = []
        classes: dict[int, str] = {}
        passed: dict[str, list[str]] = {UNUSED: unused}
        for name, split in splits.items():
            file = _File(root / name)
            self._join(classes, file)
            labelled, left = file.labelled(skip=self.config.several == "skip")
            folder = self._folder(base, file, split, [*labelled, *(n for names in left.values() for n in names)])
            rows += [Row(folder + image, label, split) for image, label in labelled.items()]
            for reason, images in left.items():
                passed.setdefault(reason, []).extend(folder + image for image in images)
        return Content(base, rows, [label for _, label in sorted(classes.items())], passed)

    def _join(self, classes: dict[int, str], file: "_File") -> None:
        """Add a file's categories. Raises UserError for two of one name, and for a number that means two."""
        if len(set(file.categories.values())) < len(file.categories):
            name, _ = Counter(file.categories.values()).most_common(1)[0]
            raise UserError(f"{file.path}: two categories are called '{name}'")
        for number, name in file.categories.items():
            if classes.setdefault(number, name) != name:
                raise UserError(f"{file.path}: category {number} is '{name}', in another file '{classes[number]}'")

    def _folder(self, base: Path, file: "_File", split: str, names: Sequence[str]) -> str:
        """The folder that a file's images start at, below the base; '' is the base itself."""
        if self.config.images or not names:
            return ""
        stem = file.path.stem.rpartition("_")[2]
        folders = [file.path.parent, base, *(base / part for part in (stem, split, "images")), base / "images" / stem]
        inside = dict.fromkeys(str(f.relative_to(base)) for f in folders if f.is_relative_to(base))
        for folder in inside:
            if (base / folder / names[0]).is_file():
                return "" if folder == "." else f"{folder}/"
        raise UserError(
            f"{file.path}: {names[0]} is in none of {', '.join(inside)} below {base}: set images to its folder"
        )


class _File:
    """A file of annotations: ``categories`` by their numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as problem:
            raise UserError(f"{path} cannot be read: {first_line(problem)}") from None
        for part in ("images", "annotations", "categories"):
            if not isinstance(self.content, dict) or not isinstance(self.content.get(part), list):
                raise UserError(f"{path} has no list of {part}: it is not COCO's JSON")
        self.categories = self._table("categories", "name")

    def _table(self, part: str, key: str) -> dict[int, str]:
        """The name of each entry of a part by its number. Raises UserError where one lacks either, or is twice."""
        found: dict[int, str] = {}
        for place, entry in enumerate(self.content[part], 1):
            number = self._number(part, place, entry, "id")
            name = entry[key].strip() if isinstance(entry.get(key), str) else ""
            if not name:
                raise UserError(f"{self.path}: entry {place} of {part} has no {key}")
            if number in found:
                raise UserError(f"{self.path}: entry {place} of {part} has the id {number}, as another before")
            found[number] = name
        return found

    def _number(self, part: str, place: int, entry: Any, key: str) -> int:
        found = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(found, int) or isinstance(found, bool):
            raise UserError(f"{self.path}: entry {place} of {part} has no whole number for {key}")
        return found

    def _images(self) -> dict[int, str]:
        """The file of each image, by its number."""
        images = self._table("images", "file_name")
        if outside := next(filter(leaves, images.values()), None):
            raise UserError(f"{self.path}: {outside!r} leads out of its folder")
        found = {number: os.path.normpath(name) for number, name in images.items()}
        if twice := [name for name, count in Counter(found.values()).items() if count > 1]:
            raise UserError(f"{self.path}: images has {twice[0]} twice")
        return found

    def labelled(self, *, skip: bool) -> tuple[dict[str, str], dict[str, list[str]]]:
        """The category of each image by its file's name, and by reason the images that are not taken."""
        images = self._images()
        seen: dict[int, dict[int, None]] = {number: {} for number in images}
        for place, entry in enumerate(self.content["annotations"], 1):
            image, category = (self._number("annotations", place, entry, key) for key in ("image_id", "category_id"))
            for number, known, part in ((image, images, "images"), (category, self.categories, "categories")):
                if number not in known:
                    raise UserError(f"{self.path}: entry {place} of annotations has {number}, which {part} lack")
            seen[image][category] = None
        several = [number for number, found in seen.items() if len(found) > 1]
        if several and not skip:
            shown = " and ".join(self.categories[number] for number in [*seen[several[0]]][:2])
            raise UserError(
                f"{self.path}: {len(several)} of {len(images)} images show several categories, as"
                f' {images[several[0]]} ({shown}): say several = "skip" to leave them out'
            )
        labels = {images[n]: self.categories[next(iter(found))] for n, found in seen.items() if len(found) == 1}
        none = [images[number] for number, found in seen.items() if not found]
        return labels, {SEVERAL: [images[number] for number in several], NONE: none}
