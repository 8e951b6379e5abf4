"""Oxford-IIIT Pet, 37 breeds of cats and dogs (Parkhi et al. 2012): annotations and images of its owners."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Fetched


class OxfordPets(Fetched):
    """7,349 photographs of cats and dogs; trained on trainval, no published validation split."""

    page = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
    metric = "mean_class_accuracy"
    layout = """
    annotations/ with trainval.txt, test.txt, beside images/*.jpg; the two may lie in oxford-iiit-pet/
      trainval.txt  Abyssinian_100 1 1 1      (image, class number from 1, species, number in the species)
    """
    counts = MappingProxyType({"classes": 37, "train": 3680, "test": 3669})
    folders = ("oxford-iiit-pet",)
    marks = ("annotations",)
    fetcher = "OxfordIIITPet"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        lists = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
        tables = {split: self.table(source) for split, source in lists.items()}
        breeds = dict.fromkeys(key.rpartition("_")[0] for key in tables["train"])
        numbers = {number.split()[0]: key.rpartition("_")[0] for key, number in tables["train"].items()}
        names = [numbers.get(str(number), "") for number in range(1, len(breeds) + 1)]
        return names, {split: self._rows(table, names, lists[split]) for split, table in tables.items()}

    def _rows(self, table: dict[str, str], names: list[str], source: str) -> Rows:
        rows: Rows = []
        for key, numbers in table.items():
            label = self.class_number(numbers.split()[0], len(names), source)
            if key.rpartition("_")[0] != names[label]:
                raise self.wrong(f"gives {key} the class number {label + 1}, that of {names[label]}, in {source}")
            rows.append((f"images/{key}.jpg", label))
        return rows
