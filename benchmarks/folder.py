"""A folder of many small images: how long until the first can be trained on, against torchvision's ImageFolder.

python benchmarks/folder.py [--images 50000] [--pairs 3] [--folder DIR] [--small]

JPEG files of 64 x 64 px, no two alike (embedded Fashion-MNIST, tinted), in a folder a class below train/ and test/.

First start: our listing, the check of every file, decoding all of them into an empty cache and the check of the test
images, against ImageFolder and one pass of a DataLoader with a worker a core that decodes every file to the same side.
Second start: the same of ours with the cache there, against ImageFolder's listing alone, which opens no file.
Files are in the system's cache of pages both times: the first pair warms up.
"""

import argparse
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pairs import Comparison, compare, keep
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from cotuning_tune.base.parallel import cores
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.data.images._decoding import _has_digests
from cotuning_tune.data.images.fashion_mnist import EMBEDDED

SIDE, STORED = 64, 32
BATCH = 256


def _make(root: Path, numbers: range) -> None:
    """The images of these numbers; each seeds its own tint."""
    with np.load(EMBEDDED) as stored:
        pixels, labels = stored["train_images"], stored["train_labels"]
    for number in numbers:
        source, part = number % len(pixels), "test" if number % 10 == 0 else "train"
        tint = np.random.default_rng(number).uniform(0.4, 1.0, 3)
        large = np.asarray(Image.fromarray(pixels[source]).resize((SIDE, SIDE)))
        image = Image.fromarray((large[:, :, None] * tint).astype(np.uint8))
        image.save(root / part / str(labels[source]) / f"{number:06d}.jpg", quality=80)


def make_files(root: Path, count: int) -> None:
    """``count`` files, a tenth of them to test."""
    for part in ("train", "test"):
        for label in range(10):
            (root / part / str(label)).mkdir(parents=True)
    step = -(-count // (8 * cores()))
    with ProcessPoolExecutor(cores()) as pool:
        list(pool.map(partial(_make, root), [range(n, min(n + step, count)) for n in range(0, count, step)]))


def ours(root: Path, *, cached: bool) -> None:
    """As a search starts: list, check and decode all of it, or find it in the cache."""
    _has_digests.cache_clear()  # a new process compares the cache with its checksums
    if not cached:
        shutil.rmtree(os.environ["COTUNING_TUNE_CACHE"], ignore_errors=True)
    task = open_task("files", 1.0, TaskConfig(size=STORED, resize=STORED), {"root": str(root)}, "image_folder")
    task.check()
    task.fit.stored(range(BATCH))


def pixels_of(image: Image.Image) -> Tensor:
    """uint8 [3, S, S], as stored by us."""
    return torch.from_numpy(np.array(image.resize((STORED, STORED), Image.Resampling.BILINEAR))).permute(2, 0, 1)


def theirs(root: Path) -> None:
    """List both splits, then decode each file once."""
    for part in ("train", "test"):
        found = ImageFolder(root / part, pixels_of)
        for _ in DataLoader(found, BATCH, num_workers=cores()):
            pass


def listing(root: Path) -> None:
    """The listing of both splits, without a look into a file."""
    for part in ("train", "test"):
        ImageFolder(root / part)


def compare_starts(root: Path, count: int, pairs: int) -> list[Comparison]:
    """The first start and the later ones."""
    first: Callable[[], None] = partial(ours, root, cached=False)
    later: Callable[[], None] = partial(ours, root, cached=True)
    what = f"{count} JPEG files of {SIDE} px, stored at {STORED} px"
    note = f"{cores()} threads against {cores()} workers"
    return [
        compare(f"first start / ImageFolder and one pass ({what})", first, partial(theirs, root), "1", pairs, note),
        compare(f"second start / ImageFolder's listing ({what})", later, partial(listing, root), "none", pairs),
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--small", action="store_true", help="few images: shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.getLogger("cotuning_tune").setLevel(logging.ERROR)
    count = 1_000 if options.small else options.images
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.environ["COTUNING_TUNE_CACHE"] = str(Path(folder) / "cache")
        root = Path(folder) / "images"
        make_files(root, count)
        found = compare_starts(root, count, options.pairs)
    keep("folder-small" if options.small else "folder", found)


if __name__ == "__main__":
    main()
