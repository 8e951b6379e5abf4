"""Who works on a search."""

from dataclasses import dataclass

from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.run.events import StageStarted, Standing
from cotuning_tune.run.folder import RunDir
from cotuning_tune.run.stream import Stream


@dataclass(frozen=True)
class Driver:
    """Its number (of the search's folder), what trainings may take, and the stream that it tells what happens."""

    number: int
    concurrency: Concurrency
    stream: Stream

    def begin(self, run: RunDir, standing: Standing) -> None:
        """Tell that a stage of the search in ``run`` begins, where it stands."""
        concurrency = self.concurrency
        self.stream.tell(
            StageStarted(run.name, str(run.path), self.number, standing, concurrency.trials, concurrency.gpus)
        )
