"""All that could fail later, asked now: the data, the backbones, the methods, the room, the places that are written to.

A check is a function of ``Asked`` in ``CHECKS`` that yields what it finds; what one raises is a finding too, and the
others still run.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.endings import ending_of
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local, place, write_bytes
from cotuning_tune.base.secrets import Secret
from cotuning_tune.base.tables import size
from cotuning_tune.data import DataSet, TaskConfig
from cotuning_tune.data._data_set import treatment
from cotuning_tune.experiment import Experiment
from cotuning_tune.hyper import build
from cotuning_tune.inspection.near import NOT_COUNTED, can_compare
from cotuning_tune.inspection.verify import KINDS, Finding, verify
from cotuning_tune.plan import Plan, plan_of
from cotuning_tune.plan.inventory import free_bytes, free_memory
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.places import check_optuna_storage, check_place
from cotuning_tune.search.checks import data_lines, sources, steps
from cotuning_tune.search.driver import begun
from cotuning_tune.search.storage import close, look_at
from cotuning_tune.trackers import check_installed

SIDE = 64  # pixels; at which images that are no files are compared
CURES = {
    "counts": "get the missing ones, or give the set the name of another format",
    "empty": "give the class images, or remove it",
    "validation": "give more images of each class",
    "missing": "restore it, or take it out of the list",
    "corrupt": "replace or remove it",
    "leak": 'task.duplicates = "drop" leaves them out',
    "label": "decide which class is right",
    "twice": "harmless; remove one to count it once",
    "near": "look at both: the test is flattered where they are the same",
    "tiny": "harmless; task.size need not be larger",
}


@dataclass(frozen=True)
class Checked:
    """What a check has found of ``what``; the text of a problem or a warning says what cures it."""

    state: Literal["ok", "problem", "warning"]
    what: str
    text: str = ""

    @property
    def line(self) -> str:
        return f"{self.state:<8} {self.what}{': ' if self.text else ''}{self.text}"


@dataclass(frozen=True)
class Asked:
    """What is to run, where its files and its studies go; ``plan``: None, or why there is none."""

    experiment: Experiment
    storage: str
    optuna_storage: Secret
    plan: Plan | UserError
    on_end: bool = False


def asked(
    experiment: Experiment, storage: str, studies: Secret, *, on_end: bool, probe: bool, say: Callable[[str], None]
) -> Asked:
    """The same with the plan, for which methods are trained for some steps where ``probe``."""
    try:
        plan: Plan | UserError = plan_of(experiment, probe=probe, say=say)
    except UserError as problem:
        plan = problem
    return Asked(experiment, storage, studies, plan, on_end)


def check(what: Asked) -> Iterator[Checked]:
    """Every finding, in order; what one mistake brings about in several checks is said once."""
    said: list[str] = []
    for one in CHECKS:
        try:
            for found in one(what):
                if found.state == "ok" or not any(text in found.text for text in said):
                    yield found
                said += [found.text] if found.state == "problem" else []
        except Exception as problem:
            if (ending := ending_of(problem, drives=False)) is None:
                raise
            echo = said and problem is what.plan  # it cannot be planned for what is wrong above
            if not echo and not any(text in ending.line for text in said):
                yield Checked("problem", one.__name__.strip("_"), ending.line)
                said.append(ending.line)


def _tried(what: Asked) -> Iterator[Checked]:
    """Each step that a run takes before its first trial; one line for all of a data set, a backbone, a method."""
    wrong, names = dict[str, list[str]](), dict[str, None]()
    for step in steps(what.experiment):
        names[step.what] = None
        try:
            step.call()
        except Exception as problem:
            if (ending := ending_of(problem, drives=False)) is None:
                raise
            wrong.setdefault(step.what, []).append(ending.line)
    for name in names:
        lines = wrong.get(name, ())
        yield from (Checked("problem", name, line) for line in dict.fromkeys(lines))
        if not lines and not (wrong and name.startswith("method ")):
            yield Checked("ok", name)


def _weights(what: Asked) -> Iterator[Checked]:
    """What the trainings begin with."""
    for source in sources(what.experiment):
        if source.is_random:
            text = "random: nothing is transferred; name a backbone with published weights, or a file of them"
            yield Checked("warning", f"weights of {source.name}", text)
        else:
            yield Checked("ok", f"weights of {source.name}", source.loaded)


def _images(what: Asked) -> Iterator[Checked]:
    """Every image opened and compared, as ``data verify`` does; texts are read by the run's own steps."""
    experiment = what.experiment
    for task in experiment.config.tasks:
        if experiment.modality(task) == "images":
            yield from _verified(experiment, task, experiment.data_of(task, SIDE))
    yield from (Checked("warning", "data", line) for line in data_lines(experiment))


def _verified(experiment: Experiment, task: str, data: DataSet) -> Iterator[Checked]:
    found = verify(data)
    kept = treatment(build(TaskConfig, experiment.task, "task"), data) != "refuse"
    for kind, named in KINDS.items():
        if listed := found.of(kind):
            state: Literal["problem", "warning"] = "problem" if named.error else "warning"
            if kind in ("leak", "counts") and kept:
                state = "warning"
            yield Checked(state, f"images of {task}", f"{_some(listed)}: {CURES[kind]}")
    counts = ", ".join(f"{count} {split}" for split, count in found.images.items())
    yield Checked("ok", f"images of {task}", f"{found.classes} classes; {counts}; all opened and compared")
    if found.files and not can_compare():
        yield Checked("warning", f"images of {task}", NOT_COUNTED)


def _some(listed: list[Finding]) -> str:
    """How many findings of a kind there are, and the first of them."""
    return f"{len(listed)} {KINDS[listed[0].kind].title}, as {listed[0].line}"


def _room(what: Asked) -> Iterator[Checked]:
    """Disk and memory against the plan."""
    if isinstance(what.plan, UserError):
        raise what.plan
    yield from _disk(what, what.plan)
    if not what.plan.memory:
        yield Checked("warning", "memory", "not measured without a probe")
        return
    concurrent = what.plan.concurrency
    if torch.cuda.is_available():
        room, of = torch.cuda.get_device_properties(0).total_memory * concurrent.gpus, "of the GPUs"
    else:
        room, of = free_memory(), "free"
    needed = what.plan.memory * concurrent.trials
    text = f"{size(needed)} for {concurrent.trials} trial(s) at a time, {size(room)} {of}"
    cure = ": a smaller train.batch_size or task.size, or fewer at a time (run --num-cpus, [resources])"
    yield Checked("problem", "memory", text + cure) if 0 < room < needed else Checked("ok", "memory", text)


def _disk(what: Asked, plan: Plan) -> Iterator[Checked]:
    where = place(what.storage)
    needs = [("image cache", cache_root(), plan.cache, "task.decode = 'each', or COTUNING_TUNE_CACHE on another disk")]
    if is_local(where):
        needs.append(("disk of the runs", where.absolute(), plan.running + plan.models, "--storage on another disk"))
    for name, path, needed, cure in needs:
        text = f"{size(needed)} needed, {size(free_bytes(path))} free in {path}"
        if needed > free_bytes(path):
            yield Checked("problem", name, f"{text}: {cure}")
        else:
            yield Checked("ok", name, text)


def _storage(what: Asked) -> Iterator[Checked]:
    """Whether the run's folder can be made, and is not another run's."""
    where = place(what.storage)
    check_optuna_storage(where, what.optuna_storage)
    folder = where / what.experiment.name
    check_place(folder)
    if not is_local(where):
        _try_object_store(where)
    if begun(RunDir(folder).current(), what.experiment):
        yield Checked("warning", "storage", f"{folder} holds this run already: 'run' continues it")
    else:
        yield Checked("ok", "storage", str(folder))


def _try_object_store(where: Path) -> None:
    """Write a small object and take it away again. Raises OSError, or what the store raises."""
    with tempfile.NamedTemporaryFile() as named:
        probe = where / f".check-{Path(named.name).name}"
        write_bytes(probe, b"")
        probe.unlink()


def _studies(what: Asked) -> Iterator[Checked]:
    """Whether the database of the studies can be reached."""
    if not what.optuna_storage:
        yield Checked("ok", "studies", "in the run's journal")
        return
    close(look_at(what.optuna_storage.reveal()))
    yield Checked("ok", "studies", "the database answers")


def _devices(what: Asked) -> Iterator[Checked]:
    """Whether what a trial takes is here."""
    resources = what.experiment.resources
    if resources.share > 0 and not torch.cuda.is_available():
        text = f"resources.gpu_per_trial = {resources.share:g}, and this machine has none: run on a cluster (--address)"
        yield Checked("warning", "GPU", text)


def _end(what: Asked) -> Iterator[Checked]:
    """Whether the command at the run's end will run."""
    if what.experiment.config.on_end and not what.on_end:
        yield Checked("warning", "on_end", "the experiment's command runs with --on-end alone")


def _trackers(what: Asked) -> Iterator[Checked]:
    """Whether their tools are installed, and can keep their files there."""
    if track := what.experiment.config.track:
        check_installed(track, place(what.storage))
        yield Checked("ok", "trackers", ", ".join(track))


CHECKS: tuple[Callable[[Asked], Iterator[Checked]], ...] = (
    _tried,
    _weights,
    _images,
    _room,
    _storage,
    _studies,
    _devices,
    _end,
    _trackers,
)
