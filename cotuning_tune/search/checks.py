"""Before anything runs: every task is opened, every method is built once, and the checkpoints are measured."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from cotuning_tune.base.files import is_local, read_json, write_json
from cotuning_tune.base.tables import size
from cotuning_tune.data import Task
from cotuning_tune.experiment import Experiment
from cotuning_tune.hyper import Space, build
from cotuning_tune.methods import Method, method
from cotuning_tune.models import Pretrained, TransferModel
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.snapshot import Snapshot
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.config import hardest
from cotuning_tune.training.job import check_backbone, forget_tasks, source_of, task_of

ENTRY = 400  # what a file of tensors needs for each besides its values
GENERATORS = 12_000  # bytes of the random generators' states


def check_studies(experiment: Experiment) -> dict[str, int]:
    """Open every task and build every method once. Raises UserError.

    The bytes of the largest checkpoints: ``state`` (of a running training) and ``weights`` (of a model).
    """
    sizes = {"state": 0, "weights": 0}
    forget_tasks()
    whole = set[str]()
    for study in experiment.studies:
        train = experiment.train_of(study.backbone)
        if study.method == experiment.config.methods[0]:
            for place in experiment.places():
                check_backbone(experiment.spec(study, place | hardest(train), 0))
        for place in experiment.places(largest=True):
            spec = experiment.spec(study, place, 0)
            if study.task not in whole:  # the data set is the same at all rates and sizes
                task_of(spec).check()
                task_of(spec).check_duplicates()
                whole.add(study.task)
            for name, needed in _built(spec, study.method, train).items():
                sizes[name] = max(sizes[name], needed)
    return sizes


def _built(spec: TrainingSpec, name: str, train: Space) -> dict[str, int]:
    """Build a spec's method, which the experiment calls ``name``, once; ``checkpoint_sizes``. Raises UserError."""
    kind, task, source = method(spec.method), task_of(spec), source_of(spec)
    config = build(kind.Config, spec.method_config, f"methods.{name}")
    model = TransferModel(source, task.num_classes, torch.Generator())
    made = kind(config, model, task)
    made.check(source)
    return checkpoint_sizes(model, made, train)


def snapshots(experiment: Experiment) -> dict[str, Snapshot]:
    """What the data of each task are now, and what the report is to say of them."""
    return {task.name: replace(task.snapshot(test=True), notes=_notes(task)) for task in _tasks(experiment)}


def _tasks(experiment: Experiment) -> Iterator[Task]:
    """Each task once, at its first rate."""
    first = {study.task: study for study in reversed(experiment.studies)}
    return (task_of(experiment.spec(study, {}, 0)) for study in first.values())


def _notes(task: Task) -> tuple[str, ...]:
    """What the report says of examples in two splits: a warning where they were kept."""
    sign = "WARNING: " if task.duplicates == "keep" else ""
    return tuple(f"{sign}{line}" for line in task.duplicate_lines())


def data_lines(experiment: Experiment) -> list[str]:
    """What is to know of the tasks' examples: which were not taken, what groups them, which stand in two splits."""
    return [
        line for task in _tasks(experiment) for line in (*task.not_taken(), *task.grouping(), *task.duplicate_lines())
    ]


def sources(experiment: Experiment) -> list[Pretrained]:
    """Every backbone of the experiment with its head, at the largest examples."""
    first: dict[str, TrainingSpec] = {}
    for study, place in product(experiment.studies, experiment.places(largest=True)):
        spec = experiment.spec(study, place, 0)
        first.setdefault(spec.backbone, spec)
    return [source_of(spec) for spec in first.values()]


def source_lines(experiment: Experiment) -> list[str]:
    """What was loaded from a file of weights, and the source heads' temperatures where fitted, for the user."""
    config, lines = experiment.config, list[str]()
    for source in sources(experiment) if config.source_val or config.weights else ():
        if source.loaded:
            lines.append(f"weights of {source.name}: {source.loaded}")
        if config.source_val:
            fitted = f"{source.temperature:.4f}, fitted on {config.source_val}"
            lines.append(f"calibration temperature of {source.name}: {fitted}")
    return lines


def _bytes(tensors: Mapping[str, object]) -> int:
    return sum(t.numel() * t.element_size() + ENTRY for t in tensors.values() if isinstance(t, Tensor))


def checkpoint_sizes(model: TransferModel, made: Method, train: Space) -> dict[str, int]:
    """Bytes of the weights, and of a training's state: weights (and their average), one momentum a trained weight (two
    of AdamW), the method's own."""
    weights = _bytes(model.state_dict())
    rebuilt = tuple(f"{name}." for name in made.rebuilt)
    own = _bytes({k: v for k, v in made.state_dict().items() if not k.startswith(rebuilt)})
    heads = () if made.uses_source_head else tuple(model.source_head.parameters())
    trained = {id(p): p for m in (model, made) for p in m.parameters() if p.requires_grad}
    for parameter in heads:
        trained.pop(id(parameter), None)
    momentum = _bytes({str(number): p for number, p in trained.items()})
    moments = 2 if "adamw" in train["optim/name"].extremes else 1
    copies = 2 if any(train["ema"].extremes) else 1
    return {"state": copies * weights + moments * momentum + own + GENERATORS, "weights": weights}


def keep_sizes(run: RunDir, sizes: Mapping[str, int], concurrent_trials: int) -> None:
    """Write down what the checkpoints take and how many trainings run at a time, for ``status``."""
    write_json(run.sizes, {**sizes, "concurrent_trials": concurrent_trials})


def disk_line(run: RunDir, experiment: Experiment) -> str:
    """What the checkpoints take now, at most while the run lasts, and at its end; and the room there is.

    A running training has two states (the newest and the one before), a retraining its kept weights too, which are
    written beside the old ones; each study keeps a model a seed. Repeats of the search count too.
    """
    runs = [run, *run.repeats()]
    folders = [one.studies_folder for one in runs if one.studies_folder.exists()]
    now = sum(p.stat().st_size for end in ("*.pt", "*.safetensors") for f in folders for p in f.rglob(end))
    if not run.sizes.exists():
        return f"checkpoints take {size(now)} now; what they need is known when a driver has started"
    sizes, studies = read_json(run.sizes), len(experiment.studies) * len(runs)
    end = studies * len(experiment.seeds) * sizes["weights"]
    most = end + sizes["concurrent_trials"] * 2 * (sizes["state"] + sizes["weights"])
    room = f"; {size(shutil.disk_usage(run.path).free)} free" if is_local(run.path) else ""
    return f"checkpoints take {size(now)} now, {size(most)} at most while it runs, {size(end)} at its end{room}"
