"""The retraining of one seed: it trains, keeps its model, and looks at the test split once. Knows nothing of Ray.

The only place that opens a test split.
"""

import math
from collections.abc import Callable
from typing import cast

from cotuning_tune.base.files import write_bytes, write_json
from cotuning_tune.data import Crops
from cotuning_tune.inspection.mistakes import Judged, draw_confusion, draw_mistakes
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.runs.predictions import Predictions, file_hash, order_key
from cotuning_tune.runs.records import Tested
from cotuning_tune.training.config import TrainingSpec
from cotuning_tune.training.job import Row, TrainingJob, recorded

PICTURES = ("validation/confusion", "validation/mistakes")


class SeedJob:
    """Looks like a training job with two more steps: the model is kept, then it is tested.

    ``ready``: the next step opens the test split; whoever asks for it has written the ledger's line before.
    ``tested``: what came of it, empty before. Each step can be repeated by another process from what is on disk.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        folder: TrialDir,
        crops: Crops,
        *,
        state_every: float = 0.0,
        each: bool = True,
        may_write: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.folder, self.crops = folder, crops
        self.job = TrainingJob(spec, folder, keep_best=True, state_every=state_every, each=each, may_write=may_write)
        self.ready, self.tested = False, list[Tested]()

    @property
    def epochs(self) -> int:
        return self.job.epochs

    @property
    def finished(self) -> bool:
        return bool(self.tested)

    @property
    def notices(self) -> list[str]:
        return self.job.notices

    @property
    def history(self) -> list[Row]:
        return self.job.history

    @property
    def kept(self) -> tuple[float, float]:
        """Score and loss of the kept epoch on validation; NaN where every example is trained on."""
        row = self.job.kept or {}
        return row.get("val_score", math.nan), row.get("val_loss", math.nan)

    def advance(self) -> None:
        """The next step. Raises TrainingFailed where the method fails, and whatever else goes wrong."""
        if not self.job.finished:
            self.job.advance()
        elif not self.ready:
            self._keep()
            self.ready = True
        else:
            self.tested = [self._test()]

    def save(self) -> None:
        """Write what of the epochs so far is not written."""
        self.job.save()

    def _keep(self) -> None:
        """Write the weights of the epoch that ``train.epoch`` names, and pictures of its mistakes on validation."""
        from safetensors.torch import save

        self.job.claim()
        self.job.load_best()
        trainer = self.job.trainer
        data = save({k: v.contiguous().cpu() for k, v in trainer.network.state_dict().items()})
        self.job.check_owner(len(data))
        write_bytes(self.folder.model, data)
        if summary := trainer.method.summary(trainer.task):
            write_json(self.folder.method, summary)
        if self.job.spec.task_config["train_on"] == "train":  # else it was trained on
            for tag, picture in self._pictures().items():
                self.job.check_owner(len(picture))  # drawing takes a while: the run may have another driver or name
                write_bytes(self.folder.picture(tag), picture)

    def _pictures(self) -> dict[str, bytes]:
        """Confusion matrix and surest mistakes on the validation split, by tag: one more pass over it.

        Not of the test split: who sees it tunes on it.
        """
        spec, trainer = self.job.spec, self.job.trainer
        title = f"{spec.task} at {100 * spec.rate:g} %, {spec.method}, seed {spec.seed}"
        task = trainer.task
        found = trainer.judge(task.val)
        judged = Judged(title, task.val, task.class_names, found.predicted_N, found.probability_N, task.noun)
        return dict(zip(PICTURES, (draw_confusion(judged), draw_mistakes(judged)), strict=True))

    def _test(self) -> Tested:
        """Open the test split once with the kept weights; keep what they say of each example."""
        from safetensors.torch import load

        trainer = self.job.trainer
        trainer.network.load_state_dict(load(self.folder.model.read_bytes()))
        split, classes = trainer.task.open_test(), tuple(map(str, trainer.task.class_names))
        judged = trainer.judge(split, self.crops)
        tested = trainer.score(judged, split)
        found = (judged.labels_N, judged.predicted_N, judged.probability_N, judged.loss_N)
        labels, predicted, confidence, nll = (part.numpy() for part in found)
        order = order_key(split.names)
        data = Predictions(labels, predicted, confidence, nll, order, classes, split.lengths).packed()
        self.job.check_owner(len(data))
        write_bytes(self.folder.predictions, data)
        known: Tested = {
            "metric": trainer.metric.name,
            "test_count": tested.count,
            "test_crops": self.crops if trainer.task.views.cropped else "",
            "predictions": file_hash(data),
            "data": trainer.task.snapshot(test=True).keys["test"],
        }
        return cast(Tested, {**recorded("test", tested), **known})
