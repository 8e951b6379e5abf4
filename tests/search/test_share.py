"""A run follows its share: what runs ends as it would, and nothing follows it above the share."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import optuna
import pytest
from ray.tune.search import Searcher

from cotuning_tune.base.errors import Unfinished
from cotuning_tune.base.files import read_json, write_bytes
from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.cluster.execute import Dealer
from cotuning_tune.cluster.seeds import SeedSearcher
from cotuning_tune.experiment import parse
from cotuning_tune.pipeline import Cluster, Request, carry_out
from cotuning_tune.runs import share as module
from cotuning_tune.runs.events import (
    Event,
    SeedStarted,
    Selected,
    ShareChanged,
    StageStarted,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import TrialConfig, TrialReport
from cotuning_tune.runs.share import write_share
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search.driver import create_run
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.searcher import StudySearcher
from cotuning_tune.search.study import Studies

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = {trials}
seeds = [0, 1, 2]
sampler = "random"
selection = "max"
[data.synthetic]
images = 32
[task]
size = 16
resize = 16
[train]
epochs = 1
batch_size = 8
"""


@pytest.fixture(autouse=True)
def _looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)


@pytest.fixture
def driver(driven: RunDir) -> Driver:
    """One that has room for three trainings at a time."""
    return Driver(1, Concurrency(1, 0.0, 3), Stream(driven))


@pytest.fixture
def trials(driver: Driver) -> StudySearcher:
    run = driver.stream.run
    studies = Studies(parse(TEXT.format(trials=6), "shared"), optuna.storages.InMemoryStorage(), run)
    return StudySearcher(studies, Recorder(run), run, driver)


class Few:
    """Six pieces of work for ``SeedSearcher``."""

    def __init__(self) -> None:
        self.left = list(range(6))

    def next(self) -> tuple[int, TrialConfig] | None:
        return (self.left.pop(), cast(TrialConfig, {})) if self.left else None

    def opens(self, work: int) -> None: ...

    def ended(self, work: int, report: TrialReport) -> None: ...

    def lost(self, work: int, epochs: int) -> None: ...


@pytest.fixture
def seeds(driver: Driver) -> SeedSearcher[int]:
    return SeedSearcher(Few(), driver)


REPORT = {
    "history": [{"epoch": 1, "val_score": 50.0, "val_loss": 1.0, "seconds": 1.0}],
    "val_score": 50.0,
    "val_loss": 1.0,
    "epochs": 1,
    "completed": True,
    "failed": "",
    "own": False,
    "fenced": False,
    "changed": "",
    "ready": False,
    "tested": [],
    "notices": [],
    "done": True,
}


@pytest.mark.parametrize("kind", ["trials", "seeds"])
def test_no_more_than_the_share(kind: str, request: pytest.FixtureRequest, driver: Driver) -> None:
    """Trials and seeds follow it up, down, and below what runs; at 0 they end Tune's loop once nothing runs."""
    searcher: Dealer = request.getfixturevalue(kind)
    run, given = driver.stream.run, iter(map(str, range(100)))

    def deal() -> int:
        """Ask until there is no more; how many run then."""
        while isinstance(searcher.suggest(next(given)), dict):
            pass
        return len(searcher.at_work)

    def end_one() -> None:
        searcher.on_trial_complete(next(iter(cast(dict[str, object], searcher.at_work))), REPORT)

    write_share(run, 1)
    assert (deal(), driver.stream.concurrent) == (1, 1)
    write_share(run, 2)
    assert (deal(), driver.stream.concurrent) == (2, 2)
    write_share(run, 9)
    assert (deal(), driver.stream.concurrent) == (3, 3)  # it has room for no more
    write_share(run, 1)
    assert deal() == 3
    end_one()
    end_one()
    assert (deal(), driver.stream.concurrent) == (1, 1)
    write_share(run, 0)
    assert searcher.suggest("x") is None
    end_one()
    assert searcher.suggest("x") == Searcher.FINISHED
    assert searcher.held
    write_share(run, None)
    assert deal() == 3


def test_a_hold_ends_with_the_share_or_the_run(trials: StudySearcher, driver: Driver) -> None:
    """It waits until the share is raised, or until the run is another driver's; the hours of a search stand still."""
    run, clock = driver.stream.run, trials.studies.budget.clock
    heard: list[Event] = []

    def raises_it(event: Event, now: Stream) -> None:
        heard.append(event)
        if isinstance(event, Waiting):
            assert clock._state[1] is None
            write_share(run, 1)

    write_share(run, 0)
    clock.driving = True
    clock.start()
    with driver.stream.also(raises_it):
        trials.hold()
    assert heard[-1] == ShareChanged(1)
    write_share(run, 0)
    run.raise_incarnation()
    with pytest.raises(Unfinished) as caught:
        trials.hold()
    assert "driver 2 owns" in caught.value.reason


class Guide:
    """Sets the share at given moments of a run, and keeps how many trainings ran after each event since the last one.

    One at a time until two trials have ended, two until two run, one until two more have ended, none until the
    run says that it waits; then nine, and one for the retraining.
    """

    def __init__(self, run: RunDir) -> None:
        self.run, self.most = run, dict[str, int]()
        self.phase, self.ended, self.told = "one", 0, list[int]()

    def _set(self, phase: str, trials: int) -> None:
        write_share(self.run, trials)
        self.phase, self.ended = phase, 0

    def __call__(self, event: Event, now: Stream) -> None:
        running = now.standing.running
        self.ended += isinstance(event, TrialEnded)
        if isinstance(event, ShareChanged | StageStarted):
            self.told.append(event.concurrent)
        if isinstance(event, TrialStarted | SeedStarted | Waiting):
            self.most[self.phase] = max(self.most.get(self.phase, 0), running)
        match self.phase:
            case "one" if self.ended == 2:
                self._set("two", 2)
            case "two" if running == 2:
                self._set("one again", 1)
            case "one again" if self.ended == 4:
                self._set("none", 0)
            case "none" if isinstance(event, Waiting):
                self._set("all", 9)
            case "all" if isinstance(event, Selected):
                self._set("seeds", 1)


def test_a_real_run_follows(tmp_path: Path) -> None:
    """1, 2, 1, 0, 9 while it searches, 1 while it retrains: nothing is lost, and no more than the share is trained.

    ``concurrent`` bounds its driver to 2 of the 4 for which there is room, whatever the share is.
    """
    experiment = parse(TEXT.format(trials=8), "shared", tmp_path)
    run = create_run(experiment, tmp_path / "runs", ["test"])
    write_share(run, 1)
    guide = Guide(run)
    request = Request(experiment=experiment, run=run, concurrent=2, cluster=Cluster(cpus=4))
    outcome = carry_out(request, [guide])
    assert outcome.lacking == ""
    assert guide.phase == "seeds"
    assert guide.most == {"one": 1, "two": 2, "one again": 1, "none": 0, "all": 2, "seeds": 1}
    assert guide.told == [1, 2, 1, 0, 2, 1, 1]
    summary = read_json(run.summary)
    assert (summary["share"], summary["done"], summary["retrained"]) == (1, 8, 3)


Call = Callable[..., tuple[int, list[str], list[str]]]


def test_by_the_command(tmp_path: Path, call: Call) -> None:
    """A number below 1 is one line, before anything is made."""
    path = tmp_path / "mine.toml"
    write_bytes(path, TEXT.format(trials=3).encode())
    code, _, errors = call("run", path, "--storage", tmp_path / "runs", "--concurrent", 0)
    assert (code, errors) == (2, ["cotuning-tune: --concurrent 0: at least 1 training at a time is needed"])
    assert not (tmp_path / "runs").exists()
