"""CIFAR-100, small photographs of its 100 fine classes (Krizhevsky 2009): the published Python batches."""

from types import MappingProxyType

from cotuning_tune.data.images._cifar import Cifar


class Cifar100(Cifar):
    """60,000 images of 32 x 32 pixels; no published validation split."""

    page = "https://www.cs.toronto.edu/~kriz/cifar.html"
    layout = """
    cifar-100-python/ with train, test, meta
    """
    counts = MappingProxyType({"classes": 100, "train": 50000, "test": 10000})
    fetcher = "CIFAR100"
    folder = "cifar-100-python"
    batches = {"train": ("train",), "test": ("test",)}  # noqa: RUF012
    meta = ("meta", "fine_label_names")
    label_key = "fine_labels"
