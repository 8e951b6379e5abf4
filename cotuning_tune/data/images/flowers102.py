"""Oxford Flowers, 102 kinds of flowers (Nilsback and Zisserman 2008): ten training images a class."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Fetched

LISTS = {"train": "trnid", "val": "valid", "test": "tstid"}


class Flowers102(Fetched):
    """8,189 photographs; ``valid`` is the published validation split. Names of the classes: torchvision's."""

    page = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
    metric = "mean_class_accuracy"
    layout = """
    flowers-102/ with imagelabels.mat, setid.mat, jpg/image_00001.jpg ...
      imagelabels.mat  labels, from 1, by number of the image
      setid.mat        trnid, valid, tstid: numbers of images, from 1
    """
    counts = MappingProxyType({"classes": 102, "train": 1020, "val": 1020, "test": 6149})
    folders = ("flowers-102",)
    marks = ("setid.mat",)
    fetcher = "Flowers102"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        from torchvision.datasets import Flowers102 as Named

        labels = self.mat("imagelabels.mat", "labels")
        classes = min(int(labels.max()), len(Named.classes))
        splits: dict[str, Rows] = {}
        for split, variable in LISTS.items():
            numbers = [self.class_number(n, len(labels), "setid.mat") for n in self.mat("setid.mat", variable)]
            splits[split] = [
                (f"jpg/image_{n + 1:05d}.jpg", self.class_number(labels[n], classes, "imagelabels.mat"))
                for n in numbers
            ]
        return Named.classes[:classes], splits
