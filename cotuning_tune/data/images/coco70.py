"""COCO-70, 1000 object crops of each of 70 classes (You et al. 2020): its owners' three lists."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Published, Rows

LISTS = {"train": "train", "val": "dev", "test": "test"}


class Coco70(Published):
    """Crops of COCO 2017; ``dev`` is the published validation split. Names are relative to the set or its split."""

    page = "https://github.com/thuml/CoTuning"
    layout = """
    COCO70/ with train.txt, dev.txt, test.txt, classes.txt, and the images in train/, dev/, test/
      train.txt    train/000000000001.jpg 0      (file and class number from 0)
      classes.txt  a class name a line
    """
    counts = MappingProxyType({"classes": 70, "train": 56000, "val": 7000, "test": 7000})
    folders = ("COCO70", "COCO_70", "coco70")
    marks = ("train.txt",)

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        classes = self.lines("classes.txt")
        return classes, {split: self._rows(name, len(classes)) for split, name in LISTS.items()}

    def _rows(self, split: str, classes: int) -> Rows:
        rows: Rows = []
        for line in self.lines(f"{split}.txt"):
            name, *number = line.rsplit(maxsplit=1)
            rows.append((name, self.class_number(number[0] if number else line, classes, f"{split}.txt", first=0)))
        if rows and not (self.root / rows[0][0]).exists() and (self.root / split / rows[0][0]).exists():
            return [(f"{split}/{name}", label) for name, label in rows]
        return rows
