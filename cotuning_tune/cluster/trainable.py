"""The Tune trainable of trials and of retrained seeds: a step is an epoch; Tune keeps no state, their folders do."""

import platform
from contextlib import suppress
from typing import cast

import torch
from ray import tune

from cotuning_tune.base.errors import Fenced, TrainingFailed
from cotuning_tune.base.files import place
from cotuning_tune.base.memory import keep_freed_memory
from cotuning_tune.data import Crops
from cotuning_tune.runs.folder import RunDir, TrialDir
from cotuning_tune.runs.records import TrialConfig, TrialReport, Values
from cotuning_tune.runs.snapshot import DataChanged, check
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import task_of
from cotuning_tune.training.seed import SeedJob
from cotuning_tune.training.splits import SplitJobs


class TrainingTrial(tune.Trainable):
    """Trains one configuration. What the method's code does wrong is reported as ``failed``; an error
    that leaves this class is the infrastructure's, and the same training is issued again."""

    def setup(self, config: Values) -> None:
        given = cast(TrialConfig, config)
        torch.set_num_threads(given["threads"])
        keep_freed_memory()
        run, self.failed, self.own, self.fenced, self.changed = RunDir(place(given["run"])), "", False, False, ""
        incarnation, folder = given["incarnation"], TrialDir(place(given["folder"]))
        specs = [TrainingSpec.from_json(spec) for spec in given["specs"]]
        self.run, self.spec, self.checked = run, specs[0], False

        def may_write(size: int) -> None:
            run.check_writable(incarnation, size)

        self.job: SplitJobs | SeedJob | None = None
        every, each = given["state_every"], given["each"]
        self.result = folder.result
        self.job = (
            SeedJob(specs[0], folder, cast(Crops, given["crops"]), state_every=every, each=each, may_write=may_write)
            if given["crops"]
            else SplitJobs(specs, folder, state_every=every, each=each, may_write=may_write)
        )

    def step(self) -> TrialReport:  # type: ignore[override]  # Tune wants a dict, and this is one
        job = self.job
        assert job is not None
        if not job.finished:
            try:
                self._check_data(job)
                job.advance()
            except OSError:
                raise
            except DataChanged as problem:
                self.changed = f"{problem} (as {platform.node()} has them)"
            except Fenced:
                self.fenced = True
            except Exception as problem:
                told = " ".join(str(problem).split())  # some speak in paragraphs
                self.failed, self.own = f"{type(problem).__name__}: {told}", isinstance(problem, TrainingFailed)
        score, loss = job.kept
        seed = job if isinstance(job, SeedJob) else None
        return {
            "history": job.history,
            "val_score": score,
            "val_loss": loss,
            "epochs": job.epochs,
            "completed": job.finished,
            "failed": self.failed,
            "own": self.own,
            "fenced": self.fenced,
            "changed": self.changed,
            "ready": bool(seed and seed.ready),
            "tested": seed.tested if seed else [],
            "notices": job.notices,
            "done": job.finished or bool(self.failed or self.changed) or self.fenced,
        }

    def _check_data(self, job: SplitJobs | SeedJob) -> None:
        """Before the first step and before the test: whether this host has the data that the run has recorded."""
        tests = isinstance(job, SeedJob) and job.ready
        if not self.checked or tests:
            check(self.run, self.spec.task, task_of(self.spec).snapshot(test=tests))
        self.checked = True

    def cleanup(self) -> None:
        """Tune ends this worker: a training that the driver leaves in the middle, as at a pause, keeps what it has."""
        with suppress(Fenced, OSError):
            if self.job and not self.result.exists():
                self.job.save()

    def reset_config(self, new_config: Values) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: Tune keeps no state of ours."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing, see ``save_checkpoint``."""
