"""The probe: a few real training steps of each method on this machine, and what they leave on disk.

It runs on the real images where they are there, else on random ones of the same size: a step costs the same.
"""

import copy
import dataclasses
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_bytes
from cotuning_tune.base.memory import keep_freed_memory
from cotuning_tune.data import ArrayImages, DataSet, Listing, Split, Task, TaskConfig, data_set
from cotuning_tune.experiment import Experiment
from cotuning_tune.hyper import build
from cotuning_tune.methods import Method, method
from cotuning_tune.models import pretrained
from cotuning_tune.plan.inventory import Inventory, cache_bytes, free_bytes
from cotuning_tune.plan.speeds import Footprint, Speed
from cotuning_tune.training import Trainer, TrainingSpec
from cotuning_tune.training.job import make_trainer, task_of
from cotuning_tune.training.state import packed

ROUND, ROUNDS = 5, 4
BUDGET_S = 30.0
EVALUATED, EVALUATIONS = 64, 3
Say = Callable[[str], None]


@dataclass(frozen=True)
class Probe:
    """Speeds and footprints by method; ``missing``: the weights that could not be had ("": none).

    ``where``: which images were used. ``device``: 'cpu' or the GPU's name, and its memory in bytes (0: none).
    """

    speeds: dict[str, Speed]
    footprints: dict[str, Footprint]
    missing: str
    where: str
    device: str = "cpu"
    device_bytes: int = 0


class RandomImages(DataSet):
    """Random pixels in place of a data set that is not there."""

    def __init__(self, classes: int, images: int, stored_size: int) -> None:
        super().__init__(None, stored_size)
        self.classes = classes
        shape = (images, 3, stored_size, stored_size)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self.listing = Listing(
            [str(n) for n in range(images)], [n % classes for n in range(images)], ArrayImages(pixels)
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(str(number) for number in range(self.classes))

    def train(self) -> Listing:
        return self.listing

    def val(self) -> Listing:
        return self.listing

    def test(self) -> Listing:
        return self.listing

    def contents(self, split: str) -> None:
        """Its splits are the same: nothing is to be left out of them."""


def _some(split: Split, count: int) -> Split:
    """The first examples of a split."""
    return split.first(count)


def _short(task: Task, train: int) -> Task:
    """The task with a training split of that many images, and a small validation split."""
    short = copy.copy(task)
    short.train = short.fit = _some(task.train, train)
    short.val = _some(task.val, EVALUATED)
    return short


def _seconds(device: torch.device, action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _step_seconds(trainer: Trainer, rounds: int) -> list[float]:
    """Seconds a step of each round, a short epoch each; the first round warms up and is left out."""
    found: list[float] = []
    while len(found) < 1 + rounds and (len(found) < 2 or sum(found) * trainer.batches < BUDGET_S):
        found.append(_seconds(trainer.device, trainer.train_epoch) / trainer.batches)
    return found[1:] or found


def _image_seconds(trainer: Trainer, split: Split) -> float:
    """Seconds an image of an evaluation; the first is left out."""
    found = [_seconds(trainer.device, lambda: trainer.evaluate(split)) for _ in range(1 + EVALUATIONS)]
    return statistics.median(found[1:]) / len(split)


def _peak_bytes(device: torch.device) -> int:
    """The most memory so far: of the GPU since it was last asked, else of the process (0: not told by the system)."""
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return most
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(spec: TrainingSpec, task: Task, rounds: int = ROUNDS) -> tuple[Speed, Footprint]:
    """Speed and footprint of a spec on a short task; the learning rate is 0, so that nothing diverges."""
    pins = {"optim/lr": 0.0, "epochs": 1 + rounds, "iterations": 0, "interval": 0}
    spec = replace(spec, train=spec.train | pins)
    start = time.perf_counter()
    trainer = make_trainer(spec, setup=False, task=task)
    start_s = time.perf_counter() - start
    steps = _step_seconds(trainer, rounds)
    image_s = _image_seconds(trainer, task.val)
    model = len(packed(trainer.network.state_dict()))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.pt"
        keep_s = _seconds(trainer.device, lambda: write_bytes(state, packed(trainer.state_dict())))
        state_bytes = state.stat().st_size
    speed = Speed(
        step_s=statistics.median(steps),
        batch=trainer.batch,
        image_s=image_s,
        steps=len(steps) * trainer.batches,
        start_s=start_s,
        keep_s=keep_s,
        memory_bytes=_peak_bytes(trainer.device),
    )
    return speed, Footprint(state_bytes, model, _growth(spec, trainer, task), len(task.fit))


def _growth(spec: TrainingSpec, trainer: Trainer, task: Task) -> float:
    """Bytes that a model has for each example of its training split: those of a method that keeps them."""
    examples, fewer = len(task.fit), len(task.fit) // 2
    if not fewer:
        return 0.0
    small = make_trainer(spec, setup=False, task=_short(task, fewer))
    large, less = (
        sum(v.numel() * v.element_size() for v in t.network.state_dict().values() if isinstance(v, torch.Tensor))
        for t in (trainer, small)
    )
    return (large - less) / (examples - fewer)


def _with_setup(speed: Speed, spec: TrainingSpec, say: Say) -> Speed:
    """The speed with the method's set-up, cold and from the cache; as it was where the user stops that."""
    if method(spec.method).setup is Method.setup:
        return replace(speed, setup_s=0.0)
    say(f"measuring the set-up of {spec.method} (Ctrl-C leaves it out)")
    task = task_of(spec)
    try:
        first, again = (_seconds(torch.device("cpu"), lambda: make_trainer(spec)) for _ in range(2))
    except KeyboardInterrupt:
        return speed
    images = len(task.train) + len(task.val)
    return replace(speed, start_s=again, setup_s=max(first - again, 0.0), setup_images=images)


def _place(experiment: Experiment, inventories: Mapping[str, Inventory]) -> tuple[Inventory, bool]:
    """The data set to probe on, and whether with its own images: the first that is there and whose cache fits."""
    for inventory in inventories.values():
        if not inventory.missing and cache_bytes(experiment, inventory) < free_bytes(cache_root()):
            return inventory, True
    return next(iter(inventories.values())), False


def _usable_weights(experiment: Experiment) -> tuple[str, str]:
    """The weights to probe with, and why they are not the experiment's."""
    weights = experiment.config.weights
    try:
        for name in experiment.backbones:
            pretrained(name, weights)
    except UserError as problem:
        return "random", str(problem)
    return weights, ""


def _specs(experiment: Experiment, task: str, rate: float, weights: str) -> list[tuple[str, TrainingSpec]]:
    """What is measured for each kind of study: each backbone that it may draw, on the largest images."""
    mine = [study for study in experiment.studies if experiment.modality(study.task) == experiment.modality(task)]
    studies = dict.fromkeys(replace(study, task=task, rate=rate) for study in mine)
    return [
        (study.learner, replace(experiment.spec(study, place, 0), weights=weights))
        for study, place in product(studies, experiment.places(largest=True))
    ]


def _most(found: Mapping[str, Any], kind: str, new: Any) -> Any:
    """What was found of a kind, each figure at least that of ``new``."""
    known = dataclasses.asdict(found.get(kind, new))
    figures = {key: [v for v in (known[key], more) if v is not None] for key, more in dataclasses.asdict(new).items()}
    return replace(new, **{key: max(values, default=None) for key, values in figures.items()})


def run_probe(experiment: Experiment, inventories: Mapping[str, Inventory], say: Say) -> Probe:
    """Measure every method of the experiment, at the largest rate, with the cores that a trial takes."""
    threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(experiment.resources.cpu_per_trial)
    try:
        kinds = dict.fromkeys(inventory.kind.modality for inventory in inventories.values())
        parts = [{t: one for t, one in inventories.items() if one.kind.modality == kind} for kind in kinds]
        found = [_run_probe(experiment, part, say) for part in parts]
    finally:
        torch.set_num_threads(threads)
    return replace(
        found[0],
        speeds={kind: speed for one in found for kind, speed in one.speeds.items()},
        footprints={kind: footprint for one in found for kind, footprint in one.footprints.items()},
        where=" and ".join(one.where for one in found),
    )


def _refuse_absent(inventory: Inventory) -> None:
    """UserError of texts that are not there: nothing made up stands in for them."""
    if inventory.kind.modality == "text" and inventory.missing:
        raise UserError(f"{inventory.task} cannot be read, and texts are planned from themselves: {inventory.missing}")


def _run_probe(experiment: Experiment, inventories: Mapping[str, Inventory], say: Say) -> Probe:
    (inventory, real), rate = _place(experiment, inventories), max(experiment.config.rates)
    _refuse_absent(inventory)
    weights, missing = _usable_weights(experiment)
    specs = _specs(experiment, inventory.task, rate, weights)
    batch = max(int(spec.train["batch_size"]) for _, spec in specs)
    config = build(TaskConfig, specs[0][1].task_config, "task")
    if real:
        if cache_bytes(experiment, inventory):
            say(f"reading {inventory.task}: its images are decoded into the cache, once")
        task, where = task_of(specs[0][1]), f"{inventory.task} at {100 * rate:g} %"
    else:
        images = max(min(inventory.at(rate, config).train, ROUND * batch), EVALUATED)
        made = RandomImages(inventory.classes, images, config.resize)
        task, where = Task(inventory.task, made, 1.0, config), f"random images in place of {inventory.task}"
    speeds: dict[str, Speed] = {}
    footprints: dict[str, Footprint] = {}
    for kind, spec in specs:
        say(f"probing {spec.method}{f' with {spec.backbone}' if len(experiment.backbones) > 1 else ''} on {where}")
        speed, footprint = measure(spec, _short(task, ROUND * int(spec.train["batch_size"])))
        if real and not missing:
            speed = _with_setup(speed, spec, say)
        speeds[kind], footprints[kind] = _most(speeds, kind, speed), _most(footprints, kind, footprint)
    return Probe(speeds, footprints, missing, where, *_device())


@functools.lru_cache(maxsize=1)
def process_seconds() -> float:
    """Seconds until a process of Python has started and imported what a worker does, as busy as this machine is."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import ray, cotuning_tune.training"], check=False, capture_output=True)
    return time.perf_counter() - start


def _device() -> tuple[str, int]:
    if not torch.cuda.is_available():
        return "cpu", 0
    return torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory


def measure_memory(spec: TrainingSpec, classes: int) -> tuple[int, int]:
    """Peak of the memory in a step and an evaluation of a full batch, and all memory of the GPU (bytes; 0: no GPU).

    On random images with random weights: only their sizes count. Raises torch.OutOfMemoryError.
    """
    if data_set(spec.format or spec.task).modality == "text":
        problem = f"resources.gpu_per_trial = 'auto' is measured on images, and {spec.task} consists of texts"
        raise UserError(f"{problem}: give a share of a GPU", "resources.gpu_per_trial")
    config = build(TaskConfig, spec.task_config, "task")
    images = RandomImages(classes, int(spec.train["batch_size"]), config.resize)
    task = Task(spec.task, images, 1.0, config)
    return measure(replace(spec, weights="random"), task, rounds=0)[0].memory_bytes, _device()[1]


def measure_footprints(experiment: Experiment, inventories: Mapping[str, Inventory]) -> dict[str, Footprint]:
    """What each method leaves on disk, from one step on two random images (or real texts) with random weights."""
    found: dict[str, Footprint] = {}
    for inventory in {one.kind.modality: one for one in reversed([*inventories.values()])}.values():
        _refuse_absent(inventory)
        for kind, spec in _specs(experiment, inventory.task, 1.0, "random"):
            config = build(TaskConfig, spec.task_config, "task")
            if inventory.kind.modality == "text":
                task = _short(task_of(spec), 2)
            else:
                task = Task(inventory.task, RandomImages(inventory.classes, 2, config.resize), 1.0, config)
            found[kind] = _most(found, kind, measure(spec, task, rounds=0)[1])
    return found
