"""Near-duplicates: rescaled and re-compressed copies are found across splits, different images are not."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.inspection import near
from cotuning_tune.inspection.near import DISTANCE, look, near_duplicates, nearest
from tests.inspection.conftest import Call

pytest.importorskip("imagehash", reason="NOT TESTED: near-duplicates; needs pip install 'cotuning_tune[near]'")


def picture(seed: int, side: tuple[int, int] = (240, 180)) -> Image.Image:
    """A made picture with coarse and fine structure, as photographs have."""
    rng = np.random.default_rng(seed)
    total = np.full((side[1], side[0]), 128.0)
    for cells in (3, 6, 12, 24):
        coarse = Image.fromarray(rng.normal(0, 72 / cells**0.5, (cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize(side, Image.Resampling.BICUBIC))
    grey = total.clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([grey, np.roll(grey, 3, 0), 255 - grey // 2], axis=-1))


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "double": lambda image: image.resize((image.width * 2, image.height * 2)),
    "square": lambda image: image.resize((128, 128)),
    "quality 50": lambda image: compressed(image, 50),
    "half, quality 75": lambda image: compressed(image.resize((image.width // 2, image.height // 2)), 75),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(kind: str) -> None:
    """At least 95 of 100 copies lie within the distance of their original, and each has that one for its nearest."""
    originals = [look(picture(seed)) for seed in range(100)]
    found = nearest([look(COPIES[kind](picture(seed))) for seed in range(100)], originals)
    assert len(found) >= 95
    assert all(copy == original for copy, original, _ in found)


def test_different_images_are_not() -> None:
    """Of 200 x 200 pairs of different pictures none is taken for the same."""
    assert (
        nearest([look(picture(seed)) for seed in range(200)], [look(picture(seed)) for seed in range(200, 400)]) == []
    )


def test_flat_images_are_not_compared() -> None:
    """Two plain images are no copies of one another: their hashes hold noise alone."""
    assert [look(Image.new("RGB", (64, 64), colour)) for colour in ("white", "navy")] == [b"", b""]
    assert nearest([b"", look(picture(0))], [b""]) == []


def test_the_distance() -> None:
    """Bits are counted; the limit itself is within."""
    zero, at, beyond = (bytes(7) + bytes([(1 << bits) - 1]) for bits in (0, DISTANCE, DISTANCE + 1))
    assert nearest([at, b"", beyond], [b"", bytes([255] * 8), zero]) == [(0, 2, DISTANCE)]


def test_each_image_once() -> None:
    """A test image that looks like one of training and one of validation is told once, with the nearer one."""
    zero, two = bytes(8), bytes(7) + b"\x03"
    found = near_duplicates({"train": [two], "val": [bytes([255] * 8), zero], "test": [zero]})
    assert [(one.split, one.other, one.distance) for one in found] == [("val", "train", 2), ("test", "val", 0)]
    assert near_duplicates({"train": [zero], "test": [zero]}, {"train": {0}, "test": {0}}) == []


def test_fifty_thousand_images_take_seconds() -> None:
    """No loop over pairs: 40,000 and 10,000 random hashes are compared in far less than a second a thousand."""
    rng = np.random.default_rng(0)
    mine, theirs = ([row.tobytes() for row in rng.integers(0, 256, (n, 8), dtype=np.uint8)] for n in (10_000, 40_000))
    theirs[39_000] = mine[7]
    start = time.process_time()
    assert (7, 39_000, 0) in nearest(mine, theirs)
    assert time.process_time() - start < 120


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with three splits; a small copy of a training image is in test, a re-compressed one in val."""
    root = tmp_path / "pictures"
    for number, (split, name) in enumerate((s, c) for s in ("train", "val", "test") for c in "ab" for _ in range(3)):
        path = root / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    picture(1).resize((120, 90)).save(root / "test/b/small.png")
    picture(2).save(root / "val/a/again.jpg", quality=60)
    return root


def test_verify_names_them(call: Call, copied: Path) -> None:
    """As warnings, with number and distance; images with the very same bytes are not told again."""
    (copied / "test/a/same.png").write_bytes((copied / "train/a/0.png").read_bytes())
    code, out, _ = call("data", "verify", "image_folder", "--root", copied)
    assert code == 1
    assert "same bytes in two splits (error): 1" in out
    assert "nearly the same image in two splits (warning): 2" in out
    assert any(line.startswith("  test/b/small.png: nearly train/a/1.png of train: ") for line in out)
    assert any(line.startswith("  val/a/again.jpg: nearly train/a/2.png of train: ") for line in out)


def test_describe_counts_them(call: Call, copied: Path) -> None:
    """A line for each split, with the threshold and an example."""
    out = call("data", "describe", "image_folder", "--root", copied, "--sheet", copied / "sheet.png")[1]
    lines = [line for line in out if "look like" in line]
    rule = "(at most 4 of 64 bits of their perceptual hash differ)"
    assert lines == [
        f"1 of 7 val images look like images of train {rule}: val/a/again.jpg and train/a/2.png",
        f"1 of 7 test images look like images of train {rule}: test/b/small.png and train/a/1.png",
    ]


@pytest.mark.parametrize("command", [("verify",), ("describe", "--sheet")])
def test_without_the_library(
    call: Call, copied: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """One line says which package would count them."""
    monkeypatch.setattr(near, "find_spec", lambda name: None)
    sheet = [copied / "sheet.png"] if "--sheet" in command else []
    code, out, _ = call("data", command[0], "image_folder", "--root", copied, *command[1:], *sheet)
    assert code == 0
    assert [line for line in out if "imagehash" in line] == [near.NOT_COUNTED]
