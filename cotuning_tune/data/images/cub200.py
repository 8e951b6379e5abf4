"""CUB-200-2011, 200 kinds of birds (Wah et al. 2011): its owners' folder CUB_200_2011."""

from collections.abc import Sequence
from types import MappingProxyType

from cotuning_tune.data.images._published import Published, Rows


class Cub200(Published):
    """11,788 photographs of birds; no published validation split. The numbers in the lists tie them together."""

    page = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
    layout = """
    CUB_200_2011/ with images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, images/CLASS/*.jpg
      images.txt              1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg
      image_class_labels.txt  1 1
      classes.txt             1 001.Black_footed_Albatross
      train_test_split.txt    1 0      (1: train, 0: test)
    """
    counts = MappingProxyType({"classes": 200, "train": 5994, "test": 5794})
    overlaps = "its owners warn that images of CUB-200-2011 are in ImageNet too, and that test images may be among them"
    folders = ("CUB_200_2011",)
    marks = ("images.txt",)

    def read(self) -> tuple[Sequence[str], dict[str, Rows]]:
        images, classes = self.table("images.txt"), self.table("classes.txt")
        labels, training = self.table("image_class_labels.txt"), self.table("train_test_split.txt")
        numbers = {key: number for number, key in enumerate(classes)}
        splits: dict[str, Rows] = {"train": [], "test": []}
        for key, name in images.items():
            number = self.look_up(labels, key, "image_class_labels.txt")
            label = self.look_up(numbers, number, "classes.txt")
            if name.split("/")[0] != classes[number]:
                raise self.wrong(f"gives {name} the class {classes[number]} in image_class_labels.txt")
            flag = self.look_up(training, key, "train_test_split.txt")
            split = self.look_up({"1": "train", "0": "test"}, flag, "the flags 0 and 1 of train_test_split.txt")
            splits[split].append((f"images/{name}", label))
        return [name.partition(".")[2] or name for name in classes.values()], splits
