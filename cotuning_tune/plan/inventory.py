"""How many images each task has: counted from its files where they are there, else from what is published."""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import SPLITS, DataSet, FileDataSet, Files, TaskConfig, data_set
from cotuning_tune.data._splitting import Named, grouped, hold_out, no_validation, sample
from cotuning_tune.experiment import Experiment
from cotuning_tune.hyper import build


@dataclass(frozen=True)
class Names:
    """Images by name and class number, without a picture."""

    names: Sequence[str]
    labels: Sequence[int]


@dataclass(frozen=True)
class Parts:
    """Images of a task at a rate, as training sees them."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Inventory:
    """What is known of a data set. ``missing``: why it cannot be read ("": it can).

    ``val`` is None where the task splits its own validation split off. ``guessed``: the size of the test
    split is not known before it is opened, it is taken for that of the training split. ``as_files``: its
    images are decoded into the cache.
    """

    task: str
    kind: type[DataSet]
    classes: int
    train: Named = field(repr=False)
    val: int | None
    test: int
    missing: str = ""
    guessed: bool = False

    @property
    def as_files(self) -> bool:
        return issubclass(self.kind, FileDataSet)

    @property
    def images(self) -> int:
        """All images of the published splits."""
        return len(self.train.names) + (self.val or 0) + self.test

    def at(self, rate: float, config: TaskConfig) -> Parts:
        """The splits at a sampling rate, by the rules that ``Task`` splits by. UserError for no validation image."""
        kept = sample(self.train, rate, config.split_seed)
        train, val = len(kept), self.val
        if val is None:
            groups = grouped(self.train.names, self.train.groups if isinstance(self.train, Files) else None)
            train, val = map(len, hold_out(self.train, kept, config.val_fraction, config.split_seed, groups))
        if not val:
            raise no_validation(self.task, rate, [self.train.labels[p] for p in kept], published=self.val is not None)
        return Parts(train, val, self.test)


def _even(images: int, classes: int) -> Names:
    """Made-up names, the classes as equal as can be."""
    return Names([str(n) for n in range(images)], [n * classes // images for n in range(images)])


def _counted(task: str, data: DataSet) -> Inventory:
    """From the data set itself; of image files only the names are read. The test split is not opened."""
    kind, classes = type(data), len(data.class_names)
    if not isinstance(data, FileDataSet):
        text = data.modality == "text"  # whose names need no tokenizer
        train, val = (data.contents("train"), data.contents("val")) if text else (data.train(), data.val())
        assert train is not None
        known = kind.counts.get("test")
        test = known or len(train.names)
        held = None if val is None else len(val.names)
        return Inventory(task, kind, classes, train, held, test, guessed=known is None)
    files = {split: data.files(split) for split in SPLITS}
    counts = {split: len(found.names) for split, found in files.items() if found is not None}
    named = files["train"]
    if named is None:
        raise UserError(f"{task} has no training split")
    return Inventory(task, kind, classes, named, counts.get("val"), counts.get("test", 0))


def take_inventory(experiment: Experiment, task: str) -> Inventory:
    """What is there of a task's data. Raises UserError where nothing is, and no sizes are published either."""
    kind = data_set(experiment.formats[task])
    try:
        return _counted(task, experiment.data_of(task, experiment.task["resize"]))
    except UserError as problem:
        counts = kind.counts
        if not {"classes", "train", "test"} <= counts.keys():
            raise UserError(f"{task}: its size is not known, because it cannot be read: {problem}") from None
        train = _even(counts["train"], counts["classes"])
        return Inventory(task, kind, counts["classes"], train, counts.get("val"), counts["test"], str(problem))


def free_bytes(path: Path) -> int:
    """Free space where a folder is, or will be."""
    there = next(parent for parent in itertools.chain([path], path.parents) if parent.exists())
    return shutil.disk_usage(there).free


def free_memory() -> int:
    """Bytes of memory that this machine, or the control group of this process, has left (0: not told)."""
    try:
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(told["MemAvailable"].split()[0])
        group = Path("/sys/fs/cgroup")
        most, used = (group / name for name in ("memory.max", "memory.current"))
        if most.exists() and (limit := most.read_text().strip()) != "max":
            free = min(free, int(limit) - int(used.read_text()))
    except (OSError, KeyError, ValueError):
        return 0
    return free


def cache_bytes(experiment: Experiment, inventory: Inventory) -> int:
    """Bytes of a data set's decoded images in the cache: N x 3 x S x S."""
    config = build(TaskConfig, experiment.task, "task")
    once = inventory.as_files and config.decode == "once"
    return inventory.images * 3 * config.resize**2 if once else 0
