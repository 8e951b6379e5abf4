"""One configuration trained on several validation splits, one after the other: a job each, judged by their mean."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training.config import TrainingSpec
from cotuning_tune.training.job import Row, TrainingJob


class SplitJobs:
    """Looks like one job: its epochs are numbered through. Of one split it is that split's job alone."""

    def __init__(
        self,
        specs: Sequence[TrainingSpec],
        folder: TrialDir,
        *,
        state_every: float = 0.0,
        each: bool = True,
        may_write: Callable[[int], None] = lambda size: None,
    ) -> None:
        folders = [folder, *(folder.split(number) for number in range(1, len(specs)))]
        self.jobs = [
            TrainingJob(spec, own, state_every=state_every, each=each, may_write=may_write)
            for spec, own in zip(specs, folders, strict=True)
        ]

    @property
    def epochs(self) -> int:
        return sum(job.epochs for job in self.jobs)

    @property
    def finished(self) -> bool:
        return all(job.finished for job in self.jobs)

    @property
    def notices(self) -> list[str]:
        return [notice for job in self.jobs for notice in job.notices]

    @property
    def history(self) -> list[Row]:
        """The rows of all jobs, epochs numbered through."""
        rows = [row for job in self.jobs for row in job.history]
        return rows if len(self.jobs) == 1 else [{**row, "epoch": number} for number, row in enumerate(rows, 1)]

    @property
    def kept(self) -> tuple[float, float]:
        """Score and loss of the epochs that are kept, the mean over the validation splits so far."""
        rows = [job.kept or {} for job in self.jobs]
        found = [(row["val_score"], row["val_loss"]) for row in rows if "val_score" in row]
        scores, losses = zip(*found, strict=True) if found else ((math.nan,), (math.nan,))
        return fmean(scores), fmean(losses)

    def advance(self) -> None:
        """Train and validate one epoch, as ``TrainingJob.advance``.

        The trial's folder is taken too, on whatever split it continues: it says who trains the trial.
        """
        self.jobs[0].claim()
        job = next(job for job in self.jobs if not job.finished)
        job.advance()
        if job.finished and job is not self.jobs[-1]:
            job.release()

    def save(self) -> None:
        """Write what of the epochs so far is not written."""
        for job in self.jobs:
            job.save()


def method_share(history: Sequence[Row]) -> float | None:
    """How large a method's terms are beside the cross-entropy, over the whole training; None where it is not known."""
    if not history or not all("train_ce" in row and "train_loss" in row for row in history):
        return None
    plain = math.fsum(row["train_ce"] for row in history)
    return math.fsum(row["train_loss"] - row["train_ce"] for row in history) / plain if plain > 0 else None
