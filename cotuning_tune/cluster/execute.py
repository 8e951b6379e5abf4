"""One executor for all trainings: a Tune run that hands out what a searcher says, and keeps nothing of its own."""

import functools
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Sized
from typing import ParamSpec, TypeVar, cast

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import Unfinished
from cotuning_tune.base.files import is_local
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.cluster.signals import kept_handlers, terminations_passed_on
from cotuning_tune.cluster.trainable import TrainingTrial
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import read_identity
from cotuning_tune.runs.records import TrialReport
from cotuning_tune.runs.snapshot import DataChanged

P = ParamSpec("P")
T = TypeVar("T")


class _Left(BaseException):
    """Carries an error out of Tune's loop, which logs what a searcher raises, and would wait for ever."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem


class _Silent(tune.ProgressReporter):
    """Tune's own one takes over what a notebook shows, and clears what others have shown there."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Nothing."""


def leaves_tune(call: Callable[P, T]) -> Callable[P, T]:
    """A searcher's answer to Tune, whose errors end the run instead of being logged."""

    @functools.wraps(call)
    def guarded(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return call(*arguments, **named)
        except Exception as problem:
            raise _Left(problem) from problem

    return guarded


def is_lost(result: TrialReport | None, *, error: bool) -> bool:
    """Whether a training that has ended was lost by the infrastructure.

    Raises DataChanged where its worker has other data than the run began with.
    """
    if error or not result or "history" not in result:
        return True
    if result["changed"]:
        raise DataChanged(result["changed"])
    return result["fenced"]


class Dealer(Searcher):
    """A searcher that has no more trainings at work than its driver may have now; all that it knows stands elsewhere.

    ``held``: it deals out nothing because the run's share is 0.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(metric="val_score", mode="max")  # neither is asked
        self.driver, self.held = driver, False

    @property
    @abstractmethod
    def at_work(self) -> Sized:
        """The trainings that have been dealt out and have not ended."""

    @abstractmethod
    def deal(self, trial_id: str) -> dict[str, object] | None:
        """A config for a new Tune trial; None while one runs that may need a successor, FINISHED at the end."""

    @leaves_tune
    def suggest(self, trial_id: str) -> dict[str, object] | None:
        """The next training where one more may run. Tune asks again, several times a second, while the answer is None.

        Where none may run at all Tune ends, and gives back the workers that it would keep.
        """
        allowed = self.driver.follow()
        if len(self.at_work) < allowed:
            return self.deal(trial_id)
        self.held = not self.at_work
        return cast(None, Searcher.FINISHED) if self.held else None  # Tune types it without FINISHED

    def hold(self) -> None:
        """Wait until the run's share allows a training again, or the run is another driver's: raises Unfinished."""
        self.driver.stream.waiting("the run's share is 0 (share.json): continues by itself when it is raised")
        while not self.driver.follow():
            self.driver.check_owner(self.driver.stream.run)
            time.sleep(self.driver.share.every)

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Tune pickles its tuner into the run's folder, and the studies know the URL of their database."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: studies and folders are the only truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see ``save``."""


def execute(
    run: RunDir,
    searcher: Dealer,
    driver: Driver,
    finished: Callable[[], bool],
    scheduler: TrialScheduler | None = None,
) -> None:
    """Carry out what ``searcher`` deals out until it has no more. Raises Unfinished where that is not ``finished``.

    Tune repeats nothing by itself: what its workers lose comes back through the searcher. It ends without an error
    where a signal has ended it, and where nothing may run.
    """
    while True:
        searcher.held = False
        with kept_handlers(), terminations_passed_on():
            try:
                _tuner(run, searcher, driver, scheduler).fit()
            except _Left as left:
                raise left.problem from None
        if finished():
            return
        if not searcher.held:
            raise Unfinished("interrupted")  # Tune caught a signal
        searcher.hold()


def _tuner(run: RunDir, searcher: Dealer, driver: Driver, scheduler: TrialScheduler | None) -> tune.Tuner:
    concurrency, identity = driver.concurrency, read_identity(run)
    folder = run.ray if is_local(run.ray) else cache_root() / "ray" / (identity["id"] if identity else run.name)
    return tune.Tuner(
        tune.with_resources(TrainingTrial, {"cpu": concurrency.cpus, "gpu": concurrency.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=sys.maxsize,
            max_concurrent_trials=concurrency.trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"{type(searcher).__name__}-{driver.number}",
            storage_path=str(folder),
            verbose=0,
            progress_reporter=_Silent(),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
