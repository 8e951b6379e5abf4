"""``resources.gpu_per_trial = "auto"``: the share of a GPU that a trial needs, measured on the cluster itself.

The share decides how many trials run beside each other and nothing else: a trial's numbers are its own.
Ray is imported inside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.experiment import Experiment, Resources
from cotuning_tune.plan.concurrency import share_of, trials_per_gpu
from cotuning_tune.plan.probe import measure_memory
from cotuning_tune.runs.budget import Budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import task_of

ANSWER_S = 600.0
KIND = "accelerator_type:"


@dataclass(frozen=True)
class Peak:
    """What a method's training takes of a GPU and what that has (bytes; ``gpu`` 0: torch sees none)."""

    method: str
    trial: int
    gpu: int


Ask = Callable[[Sequence[TrainingSpec], int], list[Peak]]


def trials_on_each(peaks: Sequence[Peak], gpus: int, cores: int, open_trials: int) -> int:
    """How many trials shall share a GPU: as many as its memory and the cores allow, none more than are open.

    ``cores``: how many trials the cores of the GPUs' nodes allow. Spread over all GPUs: trials that would
    not fill one more on each of them do not share.
    """
    by_memory = min(trials_per_gpu(peak.trial, peak.gpu) for peak in peaks)
    return max(1, min(by_memory, open_trials // gpus, cores // gpus))


def specs_of(experiment: Experiment) -> list[TrainingSpec]:
    """One spec for each method and backbone, as large as allowed: batch, images, the task with most classes."""
    rate = max(experiment.config.rates)
    specs = [
        experiment.spec(
            study, {**place, "batch_size": max(experiment.train_of(study.backbone)["batch_size"].extremes)}, 0
        )
        for study in experiment.studies
        if study.rate == rate
        for place in experiment.places(largest=True)
    ]
    largest = max(specs, key=lambda spec: task_of(spec).num_classes).task
    return [spec for spec in specs if spec.task == largest]


def _measure(spec: dict[str, Any], classes: int) -> tuple[int, int, str]:
    """Peak and the GPU's memory; the last is the reason where they could not be had. Runs in a worker."""
    torch.set_num_threads(1)
    try:
        return (*measure_memory(TrainingSpec.from_json(spec), classes), "")
    except torch.OutOfMemoryError as problem:
        return 0, 0, first_line(problem)


def ask_cluster(specs: Sequence[TrainingSpec], cpus: int) -> list[Peak]:
    """Measure each method on one GPU of each kind that the connected cluster has. Raises UserError."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    kinds = {_kind(node): node["NodeID"] for node in gpu_nodes()}
    measure = ray.remote(num_cpus=cpus, num_gpus=1, max_calls=1, max_retries=0)(_measure)
    pending = {}
    for kind, node in kinds.items():
        there = measure.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        for spec in specs:
            pending[there.remote(spec.to_json(), task_of(spec).num_classes)] = spec.method, kind
    found = []
    for answer, (method, kind) in pending.items():
        try:
            trial, gpu, problem = ray.get(answer, timeout=ANSWER_S)
        except Exception as lost:
            raise UserError(_refusal(f"{method} could not be measured on a {kind}: {first_line(lost)}")) from None
        if problem:
            raise UserError(_refusal(f"{method} does not fit on a {kind} alone: {problem}"))
        found.append(Peak(method, trial, gpu))
    return found


def _refusal(problem: str) -> str:
    return f"resources.gpu_per_trial = 'auto': {problem}"


def gpu_nodes() -> list[dict[str, Any]]:
    """The living nodes that have a GPU."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]


def _kind(node: dict[str, Any]) -> str:
    found = [name.removeprefix(KIND) for name in node["Resources"] if name.startswith(KIND)]
    return found[0] if found else "GPU"


def open_trainings(runs: Sequence[RunDir], experiment: Experiment) -> int:
    """How many trainings wait side by side at most: trials of a search, its confirmations, or seeds after it.

    ``runs``: the run, and those that repeat its search one after the other.
    """
    studies, counts = len(experiment.studies), [1]
    again = studies * experiment.confirmations
    for run in runs:
        trials, seeds = (len(list(run.studies_folder.glob(f"*/{of}/*/result.json"))) for of in ("trials", "retrain"))
        drawn = studies * Budget(run, experiment.trials, experiment.config.hours).most - trials
        counts += [drawn, min(again, drawn + again), studies * len(experiment.seeds) - seeds]
    return max(counts)


def settled(
    runs: Sequence[RunDir], experiment: Experiment, say: Callable[[str], None], ask: Ask = ask_cluster
) -> Resources:
    """The resources with a number in place of 'auto'; 0 where the connected cluster has no GPU. Raises UserError."""
    asked = experiment.resources
    if asked.gpu_per_trial != "auto":
        return asked
    nodes = [node["Resources"] for node in gpu_nodes()]
    if not nodes:
        return replace(asked, gpu_per_trial=0.0)
    say("measuring the methods' GPU memory")
    peaks = ask(specs_of(experiment), asked.cpu_per_trial)
    if any(not peak.gpu for peak in peaks):
        raise UserError(_refusal("Ray counts GPUs where torch sees none: name a share, or 0"))
    gpus = sum(int(node["GPU"]) for node in nodes)
    cores = sum(int(node.get("CPU", 0) // asked.cpu_per_trial) for node in nodes)
    count = trials_on_each(peaks, gpus, cores, open_trainings(runs, experiment))
    most = max(peaks, key=lambda peak: peak.trial)
    say(f"{count} trial(s) share a GPU: {most.method} takes {most.trial / 2**30:.2f} of {most.gpu / 2**30:.1f} GiB")
    return replace(asked, gpu_per_trial=share_of(count))
