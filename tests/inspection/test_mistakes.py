"""The pictures of a trained model's mistakes."""

import io

import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from cotuning_tune.data import Split
from cotuning_tune.data._data_set import Listing
from cotuning_tune.data.images._images import SomeImages
from cotuning_tune.inspection.mistakes import Judged, draw_confusion, draw_mistakes
from tests.boards import judged


class Plain(SomeImages):
    """Grey images, each as bright as its place."""

    def take(self, positions: list[int]) -> torch.Tensor:
        return torch.stack([torch.full((3, 8, 8), place % 256, dtype=torch.uint8) for place in positions])

    def fingerprint(self) -> str:
        return "plain"


def made(labels: list[int], predicted: list[int], sure: list[float], names: list[str]) -> Judged:
    listing = Listing([f"{n}.png" for n in range(len(labels))], labels, Plain())
    return Judged("$t$ 50 %", Split(listing, range(len(labels))), names, torch.tensor(predicted), torch.tensor(sure))


def test_counts_are_those_of_scikit_learn() -> None:
    """Row the true class, column the predicted one; a class without images has a row of zeros."""
    labels, predicted = torch.randint(0, 6, (2, 200), generator=torch.Generator().manual_seed(0)).tolist()
    found = made(labels, predicted, [0.5] * 200, list("abcdefg")).confusion()
    assert found.tolist() == confusion_matrix(labels, predicted, labels=range(7)).tolist()


def test_pairs_and_mistakes_in_order() -> None:
    """The most confused pair first, equals by class; the surest mistake first; what is right is none."""
    found = made([0, 0, 0, 1, 2, 2], [1, 1, 0, 2, 0, 2], [0.6, 0.9, 1.0, 0.7, 0.95, 1.0], ["a", "b", "c"])
    assert found.worst_pairs() == [(2, 0, 1), (1, 1, 2), (1, 2, 0)]
    assert found.mistakes() == [4, 1, 3, 0]


@pytest.mark.parametrize("classes", [1, 2, 20, 21, 200])
def test_a_matrix_of_any_size(classes: int) -> None:
    """Pictures of one size without a warning, whatever the names; 200 classes too."""
    labels = [n % classes for n in range(300)]
    predicted = [(n * 7) % classes for n in range(300)]
    names = [f"$x_{n} ^ 鳥 a very long name of a class" for n in range(classes)]
    picture = Image.open(io.BytesIO(draw_confusion(made(labels, predicted, [0.5] * 300, names))))
    assert picture.size == (900, 1080)
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


@pytest.mark.parametrize(("wrong", "height"), [(0, 1), (3, 1), (7, 2), (100, 4)])
def test_as_many_rows_as_there_are_mistakes(wrong: int, height: int) -> None:
    """Six a row, four rows at most; a model without mistakes leaves one row empty."""
    found = made([0] * 100, [1] * wrong + [0] * (100 - wrong), [0.5] * 100, ["a", "b"])
    empty = Image.open(io.BytesIO(draw_mistakes(made([0], [0], [0.5], ["a"]))))
    picture = Image.open(io.BytesIO(draw_mistakes(found)))
    assert (picture.width, (picture.height - empty.height) % 172) == (empty.width, 0)
    assert (picture.height - empty.height) // 172 + 1 == height


def test_an_image_is_shown_as_stored() -> None:
    """The first tile is the image of the surest mistake."""
    labels = [0] * 10
    found = made(labels, [1] * 10, [0.5] * 4 + [0.9] + [0.5] * 5, ["a", "b"])
    picture = Image.open(io.BytesIO(draw_mistakes(found)))
    assert picture.getpixel((20 + 64, 74 + 64)) == (4, 4, 4)


def test_real_images_are_drawn() -> None:
    """Both pictures of a task's own validation split."""
    found = judged(images=40)
    assert len(found.mistakes()) == -(-len(found.split) // 3)
    for png in (draw_confusion(found), draw_mistakes(found)):
        assert Image.open(io.BytesIO(png)).mode in ("RGB", "RGBA")
