"""The seam to Ray Tune of the retraining: deals out seeds and takes their reports back."""

from typing import Generic, Protocol, TypeVar, cast

from ray.tune.search import Searcher

from cotuning_tune.cluster.driver import Driver
from cotuning_tune.cluster.execute import Dealer, is_lost, leaves_tune
from cotuning_tune.runs.records import TrialConfig, TrialReport

Work = TypeVar("Work")


class Source(Protocol[Work]):
    """What is to be done, and what is told of it."""

    def next(self) -> tuple[Work, TrialConfig] | None: ...

    def opens(self, work: Work) -> None: ...

    def ended(self, work: Work, report: TrialReport) -> None: ...

    def lost(self, work: Work, epochs: int) -> None: ...


class SeedSearcher(Dealer, Generic[Work]):
    """Hands out what its source has; a worker that died gives its work back to it."""

    def __init__(self, source: Source[Work], driver: Driver) -> None:
        super().__init__(driver)
        self.source = source
        self.running: dict[str, Work] = {}
        self.epochs: dict[str, int] = {}
        self.opened: set[str] = set()

    @property
    def at_work(self) -> dict[str, Work]:
        """By Tune's name."""
        return self.running

    def deal(self, trial_id: str) -> dict[str, object] | None:
        """A config for a new Tune trial; None while one runs that may come back."""
        found = self.source.next()
        if found is None:
            return None if self.running else cast(None, Searcher.FINISHED)  # Tune types it without FINISHED
        self.running[trial_id], config = found
        return dict(config)

    @leaves_tune
    def on_trial_result(self, trial_id: str, result: TrialReport) -> None:  # type: ignore[override]  # a bare dict in Tune
        """A step has ended. Tune asks for the next one after this."""
        self.epochs[trial_id] = len(result["history"])
        if result["ready"] and not result["done"] and trial_id not in self.opened:
            self.opened.add(trial_id)
            self.source.opens(self.running[trial_id])

    @leaves_tune
    def on_trial_complete(  # type: ignore[override]  # a bare dict in Tune
        self, trial_id: str, result: TrialReport | None = None, error: bool = False
    ) -> None:
        """The end of a Tune trial: tested, failed, or lost by the infrastructure."""
        if trial_id not in self.running:
            return
        work = self.running.pop(trial_id)
        if is_lost(result, error=error):
            self.source.lost(work, self.epochs.get(trial_id, 0))
        elif result and result["done"]:  # else Tune was told to end
            self.source.ended(work, result)
