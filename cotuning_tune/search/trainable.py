"""The Tune trainable: one step is one epoch; its state lives in the trial's folder, not with Tune."""

from typing import cast

import torch
from ray import tune

from cotuning_tune.base.errors import Fenced
from cotuning_tune.base.files import place
from cotuning_tune.run.folder import RunDir, TrialDir
from cotuning_tune.run.records import TrialConfig, TrialReport, Values
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.splits import SplitJobs


class TrainingTrial(tune.Trainable):
    """Trains one configuration. What the method's code does wrong is reported as ``failed``; an error
    that leaves this class is the infrastructure's, and the same trial is issued again."""

    def setup(self, config: Values) -> None:
        given = cast(TrialConfig, config)
        torch.set_num_threads(given["threads"])
        run, self.failed = RunDir(place(given["run"])), ""
        incarnation = given["incarnation"]
        self.job: SplitJobs | None = None
        self.job = SplitJobs(
            [TrainingSpec.from_json(spec) for spec in given["specs"]],
            TrialDir(place(given["folder"])),
            may_write=lambda size: run.check_writable(incarnation, size),
        )

    def step(self) -> TrialReport:  # type: ignore[override]  # Tune wants a dict, and this is one
        assert self.job is not None
        if not self.job.finished:
            try:
                self.job.advance()
            except (Fenced, OSError):
                raise
            except Exception as problem:
                self.failed = f"{type(problem).__name__}: {problem}"
        accuracy, loss = self.job.kept
        return {
            "history": self.job.history,
            "val_accuracy": accuracy,
            "val_loss": loss,
            "epochs": self.job.epochs,
            "completed": self.job.finished,
            "failed": self.failed,
            "notices": self.job.notices,
            "done": self.job.finished or bool(self.failed),
        }

    def reset_config(self, new_config: Values) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: Tune keeps no state of ours."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing, see ``save_checkpoint``."""
