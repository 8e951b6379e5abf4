"""One training in a folder of its own: its state is on disk every so often, and it continues from there."""

import copy
import functools
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cotuning_tune.base import seeding
from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import Fenced, TrainingFailed, UserError, first_line
from cotuning_tune.base.files import write_bytes
from cotuning_tune.data import Task, TaskConfig, Words, data_set, open_task
from cotuning_tune.hyper import build
from cotuning_tune.methods import Preparation, method
from cotuning_tune.models import Pretrained, TransferModel, pretrained, words_of
from cotuning_tune.relationship import calibrated
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.runs.records import present
from cotuning_tune.scores import Metric, Score, evaluate, metric_of
from cotuning_tune.training.config import TrainConfig, TrainingSpec
from cotuning_tune.training.optim import freeze_statistics
from cotuning_tune.training.state import packed, read_state, write_state
from cotuning_tune.training.trainer import Judgement, Trainer

Row = dict[str, Any]
log = logging.getLogger(__name__)
STATE = "state 5"


@functools.lru_cache(maxsize=4)
def _open_task(name: str, rate: float, task_config: str, options: str, data_format: str, words: Words | None) -> Task:
    config = build(TaskConfig, json.loads(task_config), "task")
    return open_task(name, rate, config, json.loads(options), data_format or None, words)


def words_for(spec: TrainingSpec) -> Words | None:
    """How the backbone of a spec takes texts; None where its task has none."""
    reads = data_set(spec.format or spec.task).modality == "text"
    return words_of(spec.backbone, spec.weights) if reads else None


def task_of(spec: TrainingSpec) -> Task:
    """The task of a spec, read once per process."""
    texts = [json.dumps(part, sort_keys=True) for part in (spec.task_config, spec.data_options)]
    return _open_task(spec.task, spec.rate, texts[0], texts[1], spec.format, words_for(spec))


def forget_tasks() -> None:
    """Whoever begins something new in this process sees the data as they are now."""
    _open_task.cache_clear()


def rows_of(spec: TrainingSpec) -> int:
    """How many rows the history of a finished training has: epochs, or intervals of iterations."""
    train = build(TrainConfig, spec.train, "train")
    passes = train.iterations and not train.interval  # else the task need not be opened
    return train.rows(train.batches(len(task_of(spec).fit)) if passes else 1)


def kept_row(history: Sequence[Row], epoch: object, metric: Metric) -> Row | None:
    """The row of the epoch that a training keeps by ``train.epoch``; None before the first.

    Of epochs with equal scores the later one: the first of equals looks better than it is on few examples.
    """
    if epoch == "best" and history:
        return max(history, key=lambda row: (metric.oriented(row["val_score"]), row["epoch"]))
    return history[-1] if history else None


def default_device() -> torch.device:
    """The first visible GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.lru_cache(maxsize=4)
def _open_source(backbone: str, weights: str, folder: str, count: int, task_config: str) -> Pretrained:
    source = pretrained(backbone, weights)
    if not folder:
        return source
    config = build(TaskConfig, json.loads(task_config), "task")
    return calibrated(source, folder, count, config, default_device())


def source_of(spec: TrainingSpec) -> Pretrained:
    """The backbone of a spec, calibrated where the spec says on what; made once a process."""
    config = json.dumps(spec.task_config, sort_keys=True)
    return _open_source(spec.backbone, spec.weights, spec.source_val, spec.source_val_images, config)


def check_backbone(spec: TrainingSpec) -> None:
    """UserError where the backbone cannot take examples of the task's size, or train on its batches.

    Other sizes than those that its weights were made for are logged.
    """
    task, source = task_of(spec), source_of(spec)
    if source.sides and not source.is_random and (wanted := task.views.misfit(source.sides)):
        log.warning("%s: %s", source.name, wanted)
    one, _ = next(task.plain_batches(task.train, 1))
    try:
        with torch.no_grad():
            copy.deepcopy(source.backbone).eval()(one)
    except (RuntimeError, AssertionError, ValueError, IndexError) as problem:
        shape = f"{task.noun} of {task.views.shape}"
        raise UserError(f"{source.name} cannot take {shape}: {first_line(problem)}") from None
    check_batch(spec, source, len(task.fit))
    if build(TrainConfig, spec.train, "train").compile:
        if task.fit.sizes() is not None:
            told = f"train.compile: batches of {task.noun} differ in length, each would be compiled anew"
            raise UserError(f"{told}: leave it out", "train.compile")
        check_compiler(default_device())


@functools.lru_cache(maxsize=2)
def check_compiler(device: torch.device) -> None:
    """UserError where torch.compile cannot compile even the smallest function for this device."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=device))
    except Exception as problem:
        said = f"torch.compile does not work here ({first_line(problem)}): leave train.compile out"
        raise UserError(said, "train.compile") from None


def check_batch(spec: TrainingSpec, source: Pretrained, examples: int) -> None:
    """UserError where the backbone cannot train on the batches of a training split of so many, as it is told to.

    BatchNorm needs two values a channel: one example gives a single one where its map has shrunk to 1 x 1. Two
    stand for every larger batch.
    """
    train, kind = build(TrainConfig, spec.train, "train"), data_set(spec.format or spec.task)
    views, noun = kind.views(build(TaskConfig, spec.task_config, "task")), kind.noun
    backbone = copy.deepcopy(source.backbone).train()
    if train.drop_path > 0:
        backbone.set_drop_path(train.drop_path)
    if train.batch_norm == "frozen":
        freeze_statistics(backbone)
    count = min(train.smallest_part(examples), 2)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            backbone(views.blank(count))
    except (RuntimeError, AssertionError, ValueError) as problem:
        said = f"{source.name} cannot train on batches of {count} of {views.shape} ({first_line(problem)})"
        if count > 1:
            raise UserError(said, views.shape.split(" ")[0]) from None
        cause, cure = f"train.batch_size = {train.batch_size}", "a train.batch_size of 2 or more"
        if train.batch(examples) > 1:
            cause = f"batches of {train.batch(examples)} in train.parts = {train.parts} have a part of one {noun[:-1]}"
            cure = "fewer parts or another train.batch_size"
        if examples == 1:
            split = f"the training split of {spec.task} at {100 * spec.rate:g} %"
            cause, cure = f"{split} has one {noun[:-1]}, whatever train.batch_size is", f"more {noun}"
        cures = f"{cure}, train.batch_norm = 'frozen', or a larger task.size"
        raise UserError(f"{said}: {cause}; give {cures}", "train.batch_size") from None


def make_trainer(
    spec: TrainingSpec, device: torch.device | None = None, *, setup: bool = True, task: Task | None = None
) -> Trainer:
    """Model, method and trainer of a spec at the start of training; ``setup=False``: a state follows.

    ``task`` stands in for the spec's own.
    """
    device = device or default_device()
    task, source = task or task_of(spec), source_of(spec)
    train = build(TrainConfig, spec.train, "train")
    seeding.seed_all(seeding.derive_seed(spec.seed, "weights"))
    generator = torch.Generator().manual_seed(seeding.derive_seed(spec.seed, "head"))
    model = TransferModel(source, task.num_classes, generator)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    kind = method(spec.method)
    config = build(kind.Config, spec.method_config, f"methods.{spec.method}")
    made = kind(config, model, task).to(device)
    if setup:
        made.check(source)
        made.setup(Preparation(task, source, device))
    # After setup, for what setup drew depends on whether its result came from the cache.
    seeding.seed_all(seeding.derive_seed(spec.seed, "training"))
    return Trainer(model, made, task, train, spec.seed, metric_of(spec.metric))


def chance(metric: Metric, task: Task) -> float:
    """The metric on the validation split where every target is given the same: the classes' shares there."""
    labels_N = task.val.labels_N
    shares_T = labels_N.bincount(minlength=task.num_classes).double() / len(labels_N)
    given = Judgement(
        labels_N,
        shares_T.argmax().expand(len(labels_N)),
        shares_T.max().expand(len(labels_N)),
        -shares_T.log()[labels_N],
        shares_T.expand(len(labels_N), -1) if metric.of_probabilities else None,
    )
    return evaluate(metric, given.predicted(task.val, tuple(map(str, task.class_names)))).value


def recorded(split: str, found: Score) -> dict[str, float]:
    """A score as the files of a training have it: ``val_score``, ``val_loss``, and what was measured beside it."""
    beside = {f"{split}_{name}": value for name, value in found.others.items()}
    return {f"{split}_score": found.value, f"{split}_loss": found.loss, **beside}


class TrainingJob:
    """The training of a spec: ``advance`` does one epoch (or interval), ``history`` holds a row for each.

    ``folder`` keeps the state of an interrupted job (none: nothing is written). ``may_write`` is called
    before each write with the number of bytes, and raises where this process must not write any more.
    Of several processes on one folder the one that began last owns it: the others (on a node that was cut
    off and comes back, say) raise Fenced before they write.
    ``keep_best`` keeps the weights of the epoch that ``train.epoch`` names, see ``kept_row``.
    ``state_every``: seconds of training that a kill may cost. The state is written where the next epoch would end
    later than that, and in the end; 0: after each epoch. ``each``: every epoch is validated, else the last one alone,
    unless the best is kept.
    ``notices``: a line for each state file that could not be used.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        folder: TrialDir | None = None,
        *,
        keep_best: bool = False,
        state_every: float = 0.0,
        each: bool = True,
        may_write: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.spec, self.folder, self.keep_best, self.may_write = spec, folder, keep_best, may_write
        self.state_every, self.each = state_every, each or spec.epoch == "best"
        self.epochs = rows_of(spec)
        self.history: list[Row] = []
        self._trainer: Trainer | None = None
        self._state: dict[str, Any] | None = None
        self._best: dict[str, Any] | None = None  # weights of the kept epoch, where that is not the last one
        self.notices: list[str] = []
        self._token = ""
        if folder is not None:
            self._state, self.notices = read_state(folder.state, lambda: self._key)
        if self._state is not None:
            self.history = [present(row) for row in self._state["history"]]
            self._best = self._state["best"]
        self._saved, self._since, self._between = len(self.history), time.monotonic(), True

    @functools.cached_property
    def _key(self) -> str:
        """What a state must belong to: the configuration, and what training sees of the data."""
        return content_key(STATE, self.spec.identity(), task_of(self.spec).fingerprint())

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.epochs

    @property
    def kept(self) -> Row | None:
        """The row of the epoch that is kept, were the training to end now."""
        return kept_row(self.history, self.spec.epoch, metric_of(self.spec.metric))

    @property
    def trainer(self) -> Trainer:
        """Made when first needed: a finished job costs nothing."""
        if self._trainer is None:
            try:
                made = make_trainer(self.spec, setup=self._state is None)
                if self._state is not None:
                    made.load_state_dict(self._state["trainer"])
            except torch.OutOfMemoryError as problem:
                raise TrainingFailed(f"out of memory: {first_line(problem)}") from problem
            self._trainer, self._state = made, None
        return self._trainer

    def advance(self) -> Row:
        """Train and validate one epoch, keep the state where it is time; returns the epoch's row.

        Raises TrainingFailed for NaN or lack of memory.
        """
        start = time.monotonic()
        self.claim()
        self._trace("begin")
        self._between = False
        try:
            trained = self.trainer.train_epoch()
            validated = self._validate()
        except torch.OutOfMemoryError as problem:
            raise TrainingFailed(f"out of memory: {first_line(problem)}") from problem
        row = {
            "epoch": len(self.history) + 1,
            **validated,
            **{f"train_{name}": value for name, value in trained.items() if name != "lr"},
            "lr": trained["lr"],
            "seconds": time.monotonic() - start,
            "time": time.time(),
        }
        self.history.append(row)
        self._between = True
        self._remember(row)
        if self.finished or time.monotonic() - self._since + row["seconds"] > self.state_every:
            self.save()
        return row

    def _validate(self) -> Row:
        """What the metric says of the validation split; nothing where it is trained on, or nobody asks."""
        task, last = self.trainer.task, len(self.history) + 1 == self.epochs
        if task.config.train_on == "trainval" or not (last or self.each):
            return {}
        found = self.trainer.evaluate(task.val)
        return recorded("val", found)

    def _trace(self, event: str) -> None:
        """With ``$COTUNING_TUNE_TRACE`` a line in that file for each epoch begun and kept: the chaos tests count."""
        if (path := os.environ.get("COTUNING_TUNE_TRACE")) and self.folder is not None:
            epoch = len(self.history) + (event == "begin")
            with Path(path).open("a") as file:
                file.write(f"{event} {self.folder.path.parts[-3]} {self.folder.path.name} {epoch}\n")

    def _remember(self, row: Row) -> None:
        """Keep the kept epoch's weights where a later epoch follows it."""
        if self.keep_best and self.spec.epoch == "best" and self.kept is row:
            weights = {} if self.finished else self.trainer.network.state_dict()
            self._best = {name: value.detach().to("cpu", copy=True) for name, value in weights.items()} or None

    def save(self) -> None:
        """Write the state of the epochs so far, unless it is written, or an epoch has begun since.

        What has ended is not trained on: of that the history is enough, where no weights are kept.
        """
        if self.folder is None or not self._between or self._saved == len(self.history):
            return
        state: dict[str, Any] = {"spec": self._key, "history": self.history, "best": self._best}
        if self.keep_best or not self.finished:
            state["trainer"] = self.trainer.state_dict()
        data = packed(state)
        self.check_owner(len(data))
        write_state(self.folder.state, data)
        self._saved, self._since = len(self.history), time.monotonic()
        self._trace("end")

    def claim(self) -> None:
        """Take the folder; not before the first step: an executor may make a job that it leaves to another process."""
        if self._token or self.folder is None:
            return
        self.may_write(0)
        self._since = time.monotonic()
        self._token = secrets.token_hex(8)
        write_bytes(self.folder.owner, self._token.encode(), durable=False)

    def check_owner(self, size_bytes: int) -> None:
        """Before each write to the folder: Fenced where another process has begun to train there since."""
        self.may_write(size_bytes)
        if self._token and self.folder is not None and self.folder.owner_token != self._token:
            raise Fenced(f"another process has taken over {self.folder.path}")

    def release(self) -> None:
        """Let go of model and optimiser; the history stays."""
        self._trainer = None

    def load_best(self) -> None:
        """Put the model at the weights that ``keep_best`` kept."""
        trainer = self.trainer
        if self._best is not None:
            trainer.network.load_state_dict(self._best)
