"""How many trials run at a time, and which share of a GPU one may take by its memory."""

import math
import os
from dataclasses import dataclass

import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import Resources

CONTEXT_BYTES = 1 << 30
MARGIN = 1.2
MOST_PER_GPU = 8


@dataclass(frozen=True)
class ConcurrencyPlan:
    """``trials`` at a time; ``why``: where that number comes from; ``gpus`` they share (0: none)."""

    trials: int
    why: str
    gpus: int = 0


def _on_gpus(gpus: int, share: float) -> int:
    """Trials at a time on that many GPUs; a share of 0.3 packs three on one."""
    return int(gpus // share) if share >= 1 else gpus * int(1 / share + 1e-9)


def plan_concurrency(resources: Resources, concurrency: int | None = None, gpus: int | None = None) -> ConcurrencyPlan:
    """How many trials run at a time: as asked, or as this machine takes.

    Raises UserError for numbers below 1, for both together, for GPUs that trials do not use.
    """
    for name, value in (("--concurrent-trials", concurrency), ("--gpus", gpus)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: at least 1 is needed")
    if concurrency is not None and gpus is not None:
        raise UserError("--concurrent-trials and --gpus say the same thing: give one of them")
    if concurrency is not None:
        return ConcurrencyPlan(concurrency, "as asked")
    share = 1.0 if resources.share < 0 else resources.share
    if gpus is not None and not share:
        raise UserError(
            "--gpus: trials of this experiment use no GPU (resources.gpu_per_trial = 0): give --concurrent-trials"
        )
    found = torch.cuda.device_count() if gpus is None else gpus
    if found and share:
        count = _on_gpus(found, share)
        if not count:
            raise UserError(f"{found} GPU(s) are fewer than resources.gpu_per_trial = {share:g}")
        return ConcurrencyPlan(count, f"{found} GPU(s), {share:g} a trial", found)
    cores = os.cpu_count() or 1
    return ConcurrencyPlan(
        max(1, cores // resources.cpu_per_trial), f"{cores} cores, {resources.cpu_per_trial} a trial"
    )


def trials_per_gpu(trial_bytes: int, gpu_bytes: int) -> int:
    """How many trials fit on a GPU by the measured peak of one.

    Each gets a fifth more than its peak, and its process a context of 1 GiB; eight at most, one at least.
    """
    fitting = int(gpu_bytes // (MARGIN * trial_bytes + CONTEXT_BYTES))
    return min(max(fitting, 1), MOST_PER_GPU)


def share_of(trials: int) -> float:
    """The share of a GPU for one of so many trials, rounded down: Ray counts in ten-thousandths."""
    return math.floor(1e4 / trials) / 1e4
