"""Who works on a search."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cotuning_tune.base.errors import Fenced, Unfinished
from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.runs.events import ShareChanged, StageStarted, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.share import Share
from cotuning_tune.runs.stream import Stream

REISSUES = 3  # of a training that the infrastructure loses again and again at one epoch, after it has begun there
STARTS = 30  # of one whose workers die again and again before they have begun with it
LOST = "infrastructure: lost more often than it may be issued again"


@dataclass(frozen=True)
class Driver:
    """Its number (of the search's folder), what trainings may take, and the stream that it tells what happens.

    ``owns``: raises Fenced where the studies are another driver's, that of a copied folder, say. ``each``: every epoch
    is validated, asked for or not.
    """

    number: int
    concurrency: Concurrency
    stream: Stream
    owns: Callable[[], None] = lambda: None
    each: bool = False
    share: Share = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "share", Share(self.stream.run, self.stream.notice)
        )  # of the run itself, for its repeats too

    def allowed(self) -> int:
        """How many trainings may run at the same time now: as many as this driver has room for, or the run's share."""
        most, share = self.concurrency.trials, self.share.trials
        return most if share is None else min(most, share)

    def follow(self) -> int:
        """The same; a change is told."""
        if (count := self.allowed()) != self.stream.concurrent:
            self.stream.tell(ShareChanged(count))
        return count

    def begin(self, run: RunDir, standing: Standing) -> None:
        """Tell that a stage of the search in ``run`` begins, where it stands."""
        now = StageStarted(run.name, str(run.path), self.number, standing, self.allowed(), self.concurrency.gpus)
        self.stream.tell(now)

    def check_owner(self, run: RunDir) -> None:
        """Before every write: wait for the storage. Raises Unfinished where a newer driver owns run or studies."""
        try:
            run.check_writable(self.number, 0)
            self.owns()
        except Fenced as problem:  # this one has nothing to write any more
            raise Unfinished(str(problem)) from None
