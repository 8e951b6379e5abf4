"""Caltech-101, 101 kinds of objects (Fei-Fei et al. 2004): a fixed share of each class is the test split."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Rows
from cotuning_tune.data.images._torchvision import Unparted


class Caltech101(Unparted):
    """8,677 images. The clutter BACKGROUND_Google is not a class and is left out, as torchvision does."""

    page = "https://data.caltech.edu/records/mzrjq-6wc02"
    metric = "mean_class_accuracy"
    layout = """
    101_ObjectCategories/CLASS/*.jpg, from accordion to yin_yang; it may lie in caltech101/
    """
    counts = MappingProxyType({"classes": 101, "images": 8677})
    folders = ("101_ObjectCategories", "caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories")
    marks = ("accordion",)
    fetcher = "Caltech101"

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        names = [name for name in self.sub_folders() if name != "BACKGROUND_Google"]
        return names, self.split(self.class_rows(names))
