"""The input pipeline: steps with the real loader, with the cache and without, against steps on one resident batch.

python benchmarks/loader.py [--images 20000] [--folder DIR] [--small]

JPEG files of 256 x 256 px are made from the embedded Fashion-MNIST images (enlarged, tinted, with grain, as large as
photographs of that size). Each step is a training step, validation left out. The cache is built once before and lies
in a folder of its own; the time of building it is compared with a plain loop over as many of the files.

Besides wall time the note gives the ratio of processor seconds (all threads, median of the pairs): other programs on
the machine hardly move it, but it does not show what a second core hides.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pairs import Comparison, compare, keep
from PIL import Image

from cotuning_tune.base.parallel import cores
from cotuning_tune.data import DecodedImages, ImageFiles
from cotuning_tune.data.images.fashion_mnist import CLASSES, EMBEDDED
from cotuning_tune.methods import Batch
from cotuning_tune.training import Trainer, TrainingSpec
from cotuning_tune.training.job import make_trainer

GPU = torch.cuda.is_available()
SIDE = 256
TARGET = "at most 1.05"


def make_files(root: Path, count: int) -> None:
    """``count`` images in a folder a class; the number of an image seeds its tint and grain."""
    with np.load(EMBEDDED) as stored:
        pixels, labels = stored["train_images"], stored["train_labels"]
    for part in ("train", "test"):
        for number in range(len(CLASSES)):
            (root / part / str(number)).mkdir(parents=True, exist_ok=True)

    def make(number: int) -> None:
        draw = np.random.default_rng(number)
        source = number % len(pixels)
        part = "test" if number < len(pixels) // 10 else "train"
        large = np.asarray(Image.fromarray(pixels[source]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        tint, grain = draw.uniform(0.4, 1.0, 3), draw.normal(0, 5, (SIDE, SIDE, 1))
        image = (large[:, :, None] * tint + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / part / str(labels[source]) / f"{number:06d}.jpg", quality=80)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(make, range(count)))


def trainer_of(spec: TrainingSpec) -> Trainer:
    """A trainer in training mode."""
    trainer = make_trainer(spec, setup=False)
    trainer._train_mode()
    return trainer


class ProcessorSeconds:
    """Processor seconds of all threads, one for each call of a piece of work."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.spent: list[float] = []

    def __call__(self) -> None:
        start = time.process_time()
        self.work()
        self.spent.append(time.process_time() - start)


def compare_both(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], target: str, pairs: int
) -> Comparison:
    """Wall time as everywhere; the ratio of processor seconds of the same pairs in the note."""
    own, other = ProcessorSeconds(ours), ProcessorSeconds(theirs)
    found = compare(name, own, other, target, pairs)
    ratios = [a / b for a, b in zip(own.spent[1:], other.spent[1:], strict=True)]  # the first is the warm-up
    note = f"processor seconds {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return replace(found, note=f"{note}; 1 torch thread, next batch fetched by another, {cores()} cores")


def compare_steps(spec: TrainingSpec, steps: int, pairs: int) -> list[Comparison]:
    """The loop as it is, with the cache and without, against steps on one resident batch; further steps each time."""
    found = []
    for decode, target in (("once", TARGET), ("each", "none: for sets that do not fit")):
        config = {**spec.task_config, "decode": decode}
        trainer = trainer_of(replace(spec, task_config=config, train={**spec.train, "interval": steps}))
        size = trainer.config.batch_size
        batch = trainer.load_batch(list(range(size)))

        def resident(trainer: Trainer = trainer, batch: Batch = batch) -> None:
            for _ in range(steps):
                trainer.train_step(batch)

        shown = f"{spec.backbone} {config['size']} px, batch {size}"
        name = f"{steps} steps decoding {decode} / on a resident batch ({shown})"
        found.append(compare_both(name, trainer.train_epoch, resident, target, pairs))
    return found


def compare_building(root: Path, size: int, count: int, pairs: int) -> Comparison:
    """The cache of some files, stored anew each time, against a plain loop that decodes the same files."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))[:count]

    def build() -> None:
        files = ImageFiles(root, names, size)
        cache = Path(os.environ["COTUNING_TUNE_CACHE"])
        (cache / "images" / f"{files.content()}.npy").unlink(missing_ok=True)
        DecodedImages(files)

    def loop() -> None:
        files = ImageFiles(root, names, size)
        for position in range(len(names)):
            files.decode(position)

    note = f"decoded by {cores()} threads, durable on the disk"
    return compare(f"cache of {count} images, stored at {size} px / plain loop", build, loop, "none", pairs, note)


def spec_of(root: Path, backbone: str, weights: str, side: tuple[int, int], batch: int) -> TrainingSpec:
    """Plain fine-tuning on the files; ``side``: seen and stored."""
    return TrainingSpec(
        task="files",
        format="image_folder",
        rate=1.0,
        method="fine_tune",
        backbone=backbone,
        weights=weights,
        seed=0,
        task_config={"size": side[0], "resize": side[1]},
        data_options={"root": str(root)},
        train={"batch_size": batch, "iterations": 100_000, "optim/lr": 1e-4},
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--small", action="store_true", help="few images, few steps: shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    images, pairs = (600, 5) if options.small else (options.images, 7)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.environ["COTUNING_TUNE_CACHE"] = str(Path(folder) / "cache")
        large, few = Path(folder) / "large", Path(folder) / "few"
        make_files(large, images)
        make_files(few, min(images, 1_500))
        found = [compare_building(large, 72, 300 if options.small else 2_000, pairs)]
        if GPU:
            found += compare_steps(spec_of(few, "resnet50", "random", (224, 256), 48), 20, pairs)
        else:
            found += compare_steps(spec_of(large, "efficientnet_lite0", "", (64, 72), 24), 8, pairs)
            found += compare_steps(spec_of(few, "resnet50", "random", (224, 256), 8), 1, pairs)
    keep("loader-small" if options.small else "loader", found)


if __name__ == "__main__":
    main()
