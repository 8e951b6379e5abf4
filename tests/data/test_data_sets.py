"""The data sets that come with the package: made-up images, the embedded Fashion-MNIST, one's own folder."""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cotuning_tune import data
from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import DataSet
from cotuning_tune.data.images.fashion_mnist import EMBEDDED
from cotuning_tune.hyper import build
from cotuning_tune.testing import pixels_of

Folder = Callable[..., Path]
SCRIPT = Path(__file__).parents[2] / "scripts" / "build_embedded_fashion_mnist.py"


def make(kind: str, size: int = 8, **options: object) -> DataSet:
    """A data set with options as an experiment file gives them."""
    found = data.data_set(kind)
    return found(build(found.Config, options), size)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    return cache_root() / "images"


def decoded_files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.npy"))


def test_unknown_data_set() -> None:
    """An unknown data set is refused with the nearest and all known names."""
    with pytest.raises(UserError, match=r"no data set 'sinthetic', did you mean 'synthetic'\?.*fashion_mnist"):
        data.data_set("sinthetic")


def test_synthetic_counts() -> None:
    """Made-up images: as many a class as asked for, to train and to test, of the stored size."""
    made = make("synthetic", size=10, classes=3, images=5)
    for split in (made.train(), made.test()):
        assert Counter(split.labels) == {0: 5, 1: 5, 2: 5}
        assert pixels_of(split).shape == (15, 3, 10, 10)
        assert len(set(split.names)) == 15
    assert len(made.class_names) == 3


def test_synthetic_splits_differ() -> None:
    """Training and test split show the same classes with other noise; the same seed gives the same images."""
    made, again, other = (make("synthetic", seed=seed) for seed in (0, 0, 1))
    train, test = pixels_of(made.train()), pixels_of(made.test())
    assert not torch.equal(train, test)
    assert torch.equal(train, pixels_of(again.train()))
    assert not torch.equal(train, pixels_of(other.train()))
    first = [pixels[torch.tensor(made.train().labels) == 0].double().mean(0) for pixels in (train, test)]
    assert (first[0] - first[1]).abs().mean() < 30


def test_synthetic_noise() -> None:
    """Without noise all images of a class are alike, and those of two classes are not."""
    listing = make("synthetic", noise=0.0).train()
    pixels, labels = pixels_of(listing), torch.tensor(listing.labels)
    assert len(torch.unique(pixels.flatten(1), dim=0)) == 4
    assert len(torch.unique(pixels[labels == 2].flatten(1), dim=0)) == 1


def test_embedded_counts() -> None:
    """The embedded Fashion-MNIST has 1000 training and 1000 test images, 100 of each of ten classes."""
    fashion = make("fashion_mnist")
    assert len(fashion.class_names) == 10
    for split in (fashion.train(), fashion.test()):
        assert Counter(split.labels) == dict.fromkeys(range(10), 100)
        assert len(split.examples) == 1000
    assert set(fashion.train().names).isdisjoint(fashion.test().names)


def test_embedded_arrays_are_the_published_ones() -> None:
    """The arrays in the package have the checksum of the script that makes them from the published files."""
    spec = importlib.util.spec_from_file_location("build_embedded", SCRIPT)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with np.load(EMBEDDED) as stored:
        assert script.digest_of({name: stored[name] for name in stored.files}) == script.ARRAYS


def test_embedded_is_small() -> None:
    """What the package carries of Fashion-MNIST is no more than about a megabyte."""
    assert EMBEDDED.stat().st_size < 1_500_000


def test_no_training_image_is_a_test_image() -> None:
    """No image stands in both embedded splits."""
    with np.load(EMBEDDED) as stored:
        train, test = ({image.tobytes() for image in stored[f"{split}_images"]} for split in ("train", "test"))
    assert train & test == set()


def test_fashion_mnist_is_inverted() -> None:
    """By default the background is white; ``invert = false`` keeps the published black one."""
    shown, published = (pixels_of(make("fashion_mnist", size=28, invert=invert).train()) for invert in (True, False))
    assert torch.equal(shown, 255 - published)
    assert shown[:, :, 0, 0].float().mean() > 250


def test_fashion_mnist_pixels() -> None:
    """At the published size the images are the stored ones, the same in all three channels."""
    listing = make("fashion_mnist", size=28, invert=False).test()
    with np.load(EMBEDDED) as stored:
        expected = torch.from_numpy(stored["test_images"])
        assert listing.labels == stored["test_labels"].tolist()
    assert torch.equal(pixels_of(listing), expected[:, None].expand(-1, 3, -1, -1))


def test_full_fashion_mnist_that_is_not_there(tmp_path: Path) -> None:
    """Where the full set is missing and may not be fetched, one line says what to set."""
    with pytest.raises(UserError, match=r"data\.fashion_mnist\.root.*embedded") as caught:
        make("fashion_mnist", part="full", root=str(tmp_path), download=False).train()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no image", "half"], ids=["empty", "text", "cut off"])
def test_a_corrupt_file_among_good_ones(cache: Path, image_folder: Folder, content: Any) -> None:
    """A file that cannot be read is named with the number of all files; nothing is left in the cache."""
    path = image_folder() / "train" / "b" / "1.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    found = make("image_folder", root=str(path.parents[2]))
    with pytest.raises(UserError, match=r"1 of 8 images .* cannot be read: train/b/1\.jpg") as caught:
        found.train()
    assert "\n" not in str(caught.value)
    assert decoded_files(cache) == []


def test_many_corrupt_files(image_folder: Folder) -> None:
    """Of many files that cannot be read three are named and the others counted."""
    root = image_folder(count=6)
    for number in range(5):
        (root / "train" / "a" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"5 of 12 images .*0\.jpg.*1\.jpg.*2\.jpg.* and 2 more"):
        make("image_folder", root=str(root)).train()


def test_repaired_after_an_error(image_folder: Folder, write_image: Folder) -> None:
    """Once the corrupt file is replaced the same folder opens."""
    path = image_folder() / "train" / "b" / "1.jpg"
    path.write_bytes(b"")
    with pytest.raises(UserError):
        make("image_folder", root=str(path.parents[2])).train()
    write_image(path)
    assert len(make("image_folder", root=str(path.parents[2])).train().names) == 8


@pytest.mark.parametrize("name", ["x.JPG", "x.JPEG", "x.Png", "x.bmp", "x.gif", "x.tiff", "x.webp", "x.ppm"])
def test_endings(image_folder: Folder, write_image: Folder, name: str) -> None:
    """Every known kind of file counts, in capital letters too."""
    root = image_folder()
    write_image(root / "train" / "a" / name)
    listing = make("image_folder", root=str(root)).train()
    assert f"train/a/{name}" in listing.names
    assert len(pixels_of(listing)) == 9


@pytest.mark.parametrize("name", ["notes.txt", "Thumbs.db", "._1.jpg", ".DS_Store"])
def test_other_files_do_not_count(image_folder: Folder, name: str) -> None:
    """Files of other kinds, and hidden ones, are passed over."""
    root = image_folder()
    (root / "train" / "a" / name).write_bytes(b"no image")
    assert len(make("image_folder", root=str(root)).train().names) == 8


def test_images_in_sub_folders_count(image_folder: Folder, write_image: Folder) -> None:
    """Images in folders inside of a class folder belong to the class."""
    root = image_folder()
    write_image(root / "train" / "b" / "more" / "9.png")
    listing = make("image_folder", root=str(root)).train()
    assert listing.labels[listing.names.index("train/b/more/9.png")] == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_colour_modes(image_folder: Folder, write_image: Folder, mode: str) -> None:
    """Grey, palette and transparent images become three channels with the right colours."""
    root = image_folder()
    path = write_image(root / "train" / "a" / "x.png", mode=mode, side=(8, 8))
    listing = make("image_folder", root=str(root)).train()
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    found = listing.examples.take([listing.names.index("train/a/x.png")])[0]
    np.testing.assert_array_equal(found.numpy(), expected)
    grey = (found[0] == found[1]).all()
    assert bool(grey) == (mode in ("1", "L", "LA"))


def test_sixteen_bits(image_folder: Folder) -> None:
    """A grey image of 16 bits keeps its shades."""
    root = image_folder()
    shades = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray(shades.astype(np.uint16)).save(root / "train" / "a" / "x.png")
    listing = make("image_folder", root=str(root)).train()
    found = listing.examples.take([listing.names.index("train/a/x.png")])[0, 0]
    assert (found.double() - torch.from_numpy(shades / 257)).abs().max() < 2


def test_aspect_is_lost(image_folder: Folder, write_image: Folder) -> None:
    """A wide image is squeezed to the stored square: its left and right ends stay in sight."""
    root = image_folder()
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 20:] = 255
    Image.fromarray(wide).save(root / "train" / "a" / "x.png")
    listing = make("image_folder", root=str(root)).train()
    found = listing.examples.take([listing.names.index("train/a/x.png")])[0].float()
    assert found[:, :, :3].max() == 0
    assert found[:, :, 5:].min() == 255


def test_decoded_once(cache: Path, image_folder: Folder) -> None:
    """The second opening decodes nothing: it finds the file of the first, by the content of the images."""
    root = image_folder()
    pixels = pixels_of(make("image_folder", root=str(root)).train())
    (before,) = decoded_files(cache)
    stamp = before.stat().st_mtime_ns
    assert torch.equal(pixels_of(make("image_folder", root=str(root)).train()), pixels)
    assert [path.stat().st_mtime_ns for path in decoded_files(cache)] == [stamp]


@pytest.mark.parametrize("change", ["content", "added", "removed", "size"])
def test_a_change_is_decoded_anew(cache: Path, image_folder: Folder, write_image: Folder, change: str) -> None:
    """A file written anew, added or removed, or another stored size, makes another entry of the cache."""
    root = image_folder()
    first = make("image_folder", root=str(root)).train()
    path, size = root / "train" / "a" / "0.jpg", 8
    if change == "content":
        write_image(path, seed=99)
    elif change == "added":
        write_image(root / "train" / "a" / "9.jpg")
    elif change == "removed":
        path.unlink()
    else:
        size = 9
    second = make("image_folder", size, root=str(root)).train()
    assert len(decoded_files(cache)) == 2
    assert first.examples.fingerprint() != second.examples.fingerprint()


@pytest.mark.parametrize("change", ["time", "folder"])
def test_equal_content_is_not_decoded_again(cache: Path, image_folder: Folder, tmp_path: Path, change: str) -> None:
    """Files that were touched, or copied to another folder, have the fingerprint and the pixels that are there."""
    root = image_folder()
    first = make("image_folder", root=str(root)).train()
    if change == "time":
        os.utime(root / "train" / "a" / "0.jpg", ns=(0, 0))
    else:
        root = shutil.copytree(root, tmp_path / "elsewhere")
    second = make("image_folder", root=str(root)).train()
    assert len(decoded_files(cache)) == 1
    assert first.examples.fingerprint() == second.examples.fingerprint()


@pytest.mark.parametrize("fraction", [-0.1, 0, 1, 1.5])
def test_impossible_test_fractions(image_folder: Folder, fraction: float) -> None:
    """A test share outside of 0 to 1 is refused."""
    with pytest.raises(UserError, match="test_fraction"):
        make("image_folder", root=str(image_folder(())), test_fraction=fraction).train()
