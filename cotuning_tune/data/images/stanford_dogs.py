"""Stanford Dogs, 120 breeds of dogs (Khosla et al. 2011): its owners' folder Images and MATLAB lists."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Published, Rows


class StanfordDogs(Published):
    """20,580 photographs, part of ImageNet: weights trained on ImageNet have seen them. No validation split."""

    page = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
    layout = """
    lists/ with train_list.mat, test_list.mat, beside Images/CLASS/*.jpg
      (the two files may also lie beside Images/)
    """
    counts = MappingProxyType({"classes": 120, "train": 12000, "test": 8580})
    overlaps = "Stanford Dogs was built from images of ImageNet, its test split too"
    folders = ("stanford_dogs", "StanfordDogs")
    marks = ("lists/train_list.mat", "train_list.mat")

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        lists = {split: self.first_of(f"lists/{split}_list.mat", f"{split}_list.mat") for split in ("train", "test")}
        classes = max(map(int, self.mat(lists["train"], "labels")))
        folders: dict[int, str] = {}
        splits = {split: self._rows(source, classes, folders) for split, source in lists.items()}
        return [folders.get(label, "").partition("-")[2] for label in range(classes)], splits

    def _rows(self, source: str, classes: int, folders: dict[int, str]) -> Rows:
        names, numbers = self.mat(source, "file_list"), self.mat(source, "labels")
        if len(names) != len(numbers):
            raise self.wrong(f"has {len(names)} names and {len(numbers)} labels in {source}")
        rows: Rows = []
        for name, number in zip(map(str, names), numbers, strict=True):
            label = self.class_number(number, classes, source)
            if folders.setdefault(label, name.split("/")[0]) != name.split("/")[0]:
                raise self.wrong(f"gives {name} the class of {folders[label]} in {source}")
            rows.append((f"Images/{name}", label))
        return rows
