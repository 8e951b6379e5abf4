"""Weights & Biases: a run for each trial in the group of the run, a group for the seeds of each retraining.

Offline unless WANDB_MODE says otherwise, in ``trackers/wandb`` of the run's folder unless WANDB_DIR does.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from cotuning_tune.base.files import remove_folder
from cotuning_tune.runs.events import RunState
from cotuning_tune.trackers._base import PROJECT, Ending, TrackedRun, Tracker, Training

if TYPE_CHECKING:
    import wandb

PATIENCE_S = 25.0  # for an upload at the end of a run; the files stay, and `wandb sync` uploads them


class WandB(Tracker):
    """A run's id is the training's key. Online its server says which steps it has; a later `resume` adds to them.

    Offline nobody says so: what a killed driver left of a training is removed, and the whole training is written.
    """

    package: ClassVar[str] = "wandb"
    install: ClassVar[str] = "cotuning_tune[wandb]"
    variable: ClassVar[str] = "WANDB_DIR"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self.mode = os.environ.get("WANDB_MODE") or "offline"
        self.folder = Path(os.environ.get("WANDB_DIR") or run.folder).absolute()
        self._runs: dict[str, wandb.Run] = {}

    @property
    def place(self) -> str:
        server = os.environ.get("WANDB_BASE_URL", "") if self.mode == "online" else self.folder
        return f"{self.mode} {server}"

    def begin(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, training: Training) -> int:
        import wandb

        for older in self.folder.glob(f"wandb/offline-run-*-{training.key}"):
            remove_folder(older)
        settings = wandb.Settings(
            mode=cast(Any, self.mode),  # it says itself what is possible
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            finish_timeout=PATIENCE_S,
            finish_timeout_raises=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        started = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=training.key,
            name=training.name,
            group=f"{self.run.group}/{training.group}" if training.group else self.run.group,
            job_type=training.stage,
            tags=[self.run.group[-64:]],
            config=dict(training.params),
            dir=str(self.folder),
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        self._runs[training.key] = started
        return max(int(started.starting_step) - 1, 0)

    def epoch(self, training: Training, epoch: int, values: Mapping[str, float], when: float) -> None:
        self._runs[training.key].log({**values, "epoch": epoch}, step=epoch)

    def end(self, training: Training, ending: Ending) -> None:
        run = self._runs.pop(training.key)
        run.summary.update({**ending.values, "state": ending.state, "reason": ending.reason})
        run.finish(exit_code=int(ending.state == "FAIL"))

    def close(self, state: RunState) -> None:
        for run in self._runs.values():
            run.finish(exit_code=1)  # it has not ended
