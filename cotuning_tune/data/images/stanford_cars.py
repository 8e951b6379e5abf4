"""Stanford Cars, 196 models of cars (Krause et al. 2013): the devkit, the single list, or folders of classes."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._files import SPLITS
from cotuning_tune.data.images._published import Published, Rows
from cotuning_tune.data.images.image_folder import ImageFolder

WITH_LABELS = "cars_test_annos_withlabels.mat"


class StanfordCars(Published):
    """16,185 photographs of cars; no published validation split. Class numbers in the lists count from 1."""

    page = "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"
    layout = """
    devkit/ with cars_meta.mat, cars_train_annos.mat, cars_test_annos_withlabels.mat, beside cars_train/, cars_test/
      (cars_test_annos_withlabels.mat may also lie beside devkit/; the set may lie in stanford_cars/)
    or cars_annos.mat beside car_ims/*.jpg
    or train/CLASS/*.jpg, test/CLASS/*.jpg, as it was packed anew later
    """
    counts = MappingProxyType({"classes": 196, "train": 8144, "test": 8041})
    folders = ("stanford_cars", "car_data", "car_data/car_data")
    marks = ("devkit", "cars_annos.mat", "train")

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        if (self.root / "devkit").exists():
            return self._read_devkit()
        return self._read_list() if (self.root / "cars_annos.mat").exists() else self._read_folders()

    def _read_devkit(self) -> tuple[Sequence[str], dict[str, Rows]]:
        names = [str(name) for name in self.mat("devkit/cars_meta.mat", "class_names")]
        test = self.first_of(f"devkit/{WITH_LABELS}", WITH_LABELS)
        lists = {"train": "devkit/cars_train_annos.mat", "test": test}
        return names, {split: self._rows(split, source, len(names)) for split, source in lists.items()}

    def _rows(self, split: str, source: str, classes: int) -> Rows:
        folder = self.first_of(f"cars_{split}/cars_{split}", f"cars_{split}")
        entries = self.mat(source, "annotations")
        if not {"fname", "class"} <= set(entries.dtype.names or ()):
            raise self.wrong(f"has no fields 'fname' and 'class' in {source}")
        return [(f"{folder}/{entry['fname']}", self.class_number(entry["class"], classes, source)) for entry in entries]

    def _read_list(self) -> tuple[Sequence[str], dict[str, Rows]]:
        source = "cars_annos.mat"
        names = [str(name) for name in self.mat(source, "class_names")]
        splits: dict[str, Rows] = {"train": [], "test": []}
        for entry in self.mat(source, "annotations"):
            row = str(entry["relative_im_path"]), self.class_number(entry["class"], len(names), source)
            splits["test" if entry["test"] else "train"].append(row)
        return names, splits

    def _read_folders(self) -> tuple[Sequence[str], dict[str, Rows]]:
        folders = ImageFolder(ImageFolder.Config(root=str(self.root)), self.stored_size)
        found = {split: folders.files(split) for split in SPLITS}
        return folders.class_names, {
            split: list(zip(files.names, files.labels, strict=True)) for split, files in found.items() if files
        }
