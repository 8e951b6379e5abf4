"""The Tune trainable: one step is one epoch; its state lives in the trial's folder, not with Tune."""

from typing import Any

import torch
from ray import tune

from cotuning_tune.base.errors import Fenced
from cotuning_tune.base.files import place
from cotuning_tune.run.folder import RunDir, TrialDir
from cotuning_tune.training import TrainingJob, TrainingSpec


class TrainingTrial(tune.Trainable):
    """Trains one configuration. What the method's code does wrong is reported as ``failed``; an error
    that leaves this class is the infrastructure's, and the same trial is issued again."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(config["threads"])
        run, self.failed = RunDir(place(config["run"])), ""
        incarnation = config["incarnation"]
        self.job: TrainingJob | None = None
        self.job = TrainingJob(
            TrainingSpec.from_json(config["spec"]),
            TrialDir(place(config["folder"])),
            keep_best=True,
            may_write=lambda size: run.check_writable(incarnation, size),
        )

    def step(self) -> dict[str, Any]:
        assert self.job is not None
        if not self.job.finished:
            try:
                self.job.advance()
            except (Fenced, OSError):
                raise
            except Exception as problem:
                self.failed = f"{type(problem).__name__}: {problem}"
        return {
            "history": self.job.history,
            "best_val_acc": self.job.best,
            "epochs": self.job.epochs,
            "completed": self.job.finished,
            "failed": self.failed,
            "notices": self.job.notices,
            "done": self.job.finished or bool(self.failed),
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: Tune keeps no state of ours."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, see ``save_checkpoint``."""
