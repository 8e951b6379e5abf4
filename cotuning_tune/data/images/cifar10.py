"""CIFAR-10, small photographs of ten classes (Krizhevsky 2009): the published Python batches."""

from types import MappingProxyType

from cotuning_tune.data.images._cifar import Cifar


class Cifar10(Cifar):
    """60,000 images of 32 x 32 pixels; no published validation split."""

    page = "https://www.cs.toronto.edu/~kriz/cifar.html"
    layout = """
    cifar-10-batches-py/ with data_batch_1 ... data_batch_5, test_batch, batches.meta
    """
    counts = MappingProxyType({"classes": 10, "train": 50000, "test": 10000})
    fetcher = "CIFAR10"
    folder = "cifar-10-batches-py"
    batches = {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)}  # noqa: RUF012
    meta = ("batches.meta", "label_names")
    label_key = "labels"
