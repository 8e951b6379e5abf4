"""What a tracker is told, by a tool that is made up: every event, each once, whatever dies, raises or hangs."""

import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest

from cotuning_tune.base import files
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place, write_json, write_lines
from cotuning_tune.runs.events import (
    Checked,
    EpochEnded,
    Event,
    Notice,
    SeedEnded,
    StageStarted,
    Standing,
    TrialEnded,
    TrialStarted,
)
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream
from cotuning_tune.trackers import Ending, Tracker, Tracking, Training, _find, _tracking, check_installed, check_names
from cotuning_tune.trackers._find import KEY
from tests.trackers import stores

STUDY = "synthetic-1.00-bss"
SPEC = {"task": "synthetic", "rate": 1.0, "method": "bss", "backbone": "tiny_cnn", "metric": "accuracy"}
CONFIG = "c0ffee00" * 8


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "val_score": 40.0 + epoch, "train_ce": 1.0, "lr": 0.1, "seconds": 2.0, "time": 9.0 + epoch}


class Tool(Tracker):
    """Keeps what it is told, for all drivers; dies at call ``dies_at``, hangs in ``end`` until ``lets_go``."""

    package: ClassVar[str] = "json"
    install: ClassVar[str] = "made-up"
    place: ClassVar[str] = "here"  # type: ignore[assignment]
    calls: ClassVar[list[str]] = []
    epochs: ClassVar[dict[str, list[int]]] = {}
    numbers: ClassVar[dict[str, list[dict[str, float]]]] = {}
    trainings: ClassVar[dict[str, Training]] = {}
    endings: ClassVar[dict[str, Ending]] = {}
    dies_at: ClassVar[int] = 0
    hangs: ClassVar[bool] = False
    lets_go: ClassVar[threading.Event] = threading.Event()

    def _called(self, what: str) -> None:
        Tool.calls.append(what)
        if len(Tool.calls) == Tool.dies_at:
            raise ConnectionError("the server is down")

    def begin(self) -> None:
        self._called("begin")

    def start(self, training: Training) -> int:
        Tool.trainings[training.name] = training
        self._called(f"start {training.name}")
        return len(Tool.epochs.setdefault(training.name, []))

    def epoch(self, training: Training, epoch: int, values: dict[str, float], when: float) -> None:  # type: ignore[override]
        Tool.epochs[training.name].append(epoch)
        Tool.numbers.setdefault(training.name, []).append(values)
        self._called(f"epoch {training.name} {epoch}")

    def end(self, training: Training, ending: Ending) -> None:
        if Tool.hangs:
            Tool.lets_go.wait()
        Tool.endings[training.name] = ending
        self._called(f"end {training.name} {ending.state}")

    def close(self, state: str) -> None:
        self._called(f"close {state}")


@pytest.fixture(autouse=True)
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The made-up tool is found under any name, and knows nothing yet."""
    monkeypatch.setattr(_tracking, "tracker", lambda name: Tool)
    Tool.calls, Tool.epochs, Tool.numbers, Tool.trainings, Tool.endings = [], {}, {}, {}, {}
    Tool.dies_at, Tool.hangs, Tool.lets_go = 0, False, threading.Event()
    yield
    Tool.lets_go.set()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path / "mine")
    write_json(found.experiment_file, {})
    write_json(found.identity, {"id": "identity", "studies": "mine-1234", "path": str(found.path)})
    found.raise_incarnation()
    return found


class Driver:
    """Writes what a driver writes, then tells it; ``notices`` are those that it told."""

    def __init__(self, run: RunDir) -> None:
        self.run, self.notices = run, list[str]()
        self.stream = Stream(run, [self._hear, Tracking("tool", run)])
        self.stream.tell(Checked({run.name: Standing()}))
        self.stream.tell(StageStarted(run.name, str(run.path), run.read_incarnation(), Standing()))

    def _hear(self, event: Event, now: Stream) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.text)

    def trial(self, number: int, epochs: int, state: str = "") -> None:
        """A trial, told epoch by epoch, which ends where ``state`` says how."""
        folder, values = self.run.study(STUDY).trial(number), {"optim/lr": 0.1 + number}
        write_json(folder.config, {"trial": number, "values": values, "attrs": {}, "specs": [SPEC]})
        self.stream.tell(TrialStarted(STUDY, number, values, 2))
        for last in range(1, epochs + 1):
            history = [row(epoch) for epoch in range(1, last + 1)]
            write_lines(folder.metrics, history)
            self.stream.tell(EpochEnded(STUDY, number, history, 1, epochs))
        if state:
            value = None if state == "FAIL" else 40.0 + epochs
            result = {"state": state, "value": value, "epochs": epochs, "seconds": 2.0 * epochs, "reason": ""}
            write_json(folder.result, result)
            self.stream.tell(TrialEnded(STUDY, number, state, value, 2.0, value))  # type: ignore[arg-type]

    def seed(self, number: int, *, again: bool = False) -> None:
        """A seed that is tested, or lost by the infrastructure."""
        folder = self.run.study(STUDY).retrain(number)
        chosen = {"config": CONFIG, "values": {"optim/lr": 0.1}}
        write_json(self.run.study(STUDY).selection, chosen)
        write_json(folder.config, {"config": CONFIG, "seed": number, "spec": SPEC})
        write_lines(folder.metrics, [row(1)])
        tested = {"again": True} if again else {"test_score": 50.0 + number, "test_loss": 0.5}
        state = "FAIL" if again else "COMPLETE"
        write_json(
            folder.result, {"state": state, "seed": number, "val_score": 41.0, "seconds": 2.0, "reason": "", **tested}
        )
        self.stream.tell(SeedEnded(STUDY, number, tested.get("test_score"), 2.0))

    def whole(self) -> None:
        """A small run from its beginning to its end."""
        self.trial(0, 3, "COMPLETE")
        self.trial(1, 2, "PRUNED")
        self.trial(2, 0, "FAIL")
        self.seed(0)
        self.seed(1)
        self.stream.end("done")


EPOCHS = {f"{STUDY}/0000": [1, 2, 3], f"{STUDY}/0001": [1, 2], f"{STUDY}/0002": []}
EPOCHS |= {f"{STUDY}/seed{seed}-c0ffee00": [1] for seed in (0, 1)}


def test_a_run_is_told_whole(run: RunDir) -> None:
    """Each trial and seed with parameters, epochs, state and scores, each once; the seeds are a group."""
    Driver(run).whole()
    assert Tool.calls[0] == "begin"
    assert Tool.calls[-1] == "close done"
    assert len(set(Tool.calls)) == len(Tool.calls)
    assert Tool.epochs == EPOCHS
    trial, seed = Tool.trainings[f"{STUDY}/0001"], Tool.trainings[f"{STUDY}/seed1-c0ffee00"]
    place = {"task": "synthetic", "rate": 1.0, "method": "bss", "backbone": "tiny_cnn"}
    assert trial.params == {**place, "stage": "search", "optim/lr": 1.1}
    assert seed.params == {**place, "stage": "retrain", "optim/lr": 0.1, "seed": 1}
    assert (trial.group, seed.group) == ("", f"{STUDY}/retrain-c0ffee00")
    assert len({training.key for training in Tool.trainings.values()}) == 5
    assert Tool.numbers[f"{STUDY}/0001"][1] == {
        "val/accuracy": 42.0,
        "val/best_accuracy": 42.0,
        "train/ce": 1.0,
        "optim/lr": 0.1,
    }
    assert Tool.endings[f"{STUDY}/0001"] == Ending("PRUNED", {"value": 42.0, "seconds": 4.0}, "", 2, 11.0)
    assert Tool.endings[f"{STUDY}/0002"] == Ending("FAIL", {"seconds": 0.0}, "", 0, 0.0)
    values = {"value": 41.0, "seconds": 2.0, "test/accuracy": 51.0, "test/loss": 0.5}
    assert Tool.endings[f"{STUDY}/seed1-c0ffee00"] == Ending("COMPLETE", values, "", 1, 10.0)


@pytest.mark.parametrize("death", range(1, 20))
def test_a_death_at_any_call_doubles_nothing(run: RunDir, death: int) -> None:
    """The driver after it tells what is lacking, and nothing twice; a third one has nothing to tell."""
    Tool.dies_at = death
    Driver(run).whole()
    Tool.dies_at = 0
    run.raise_incarnation()
    Driver(run).stream.end("done")
    assert Tool.epochs == EPOCHS
    assert sorted(Tool.endings) == sorted(EPOCHS)
    told = len(Tool.calls)
    Driver(run).stream.end("done")
    assert Tool.calls[told:] == ["begin", "close done"]


def test_a_trial_is_continued(run: RunDir) -> None:
    """A trial that one driver began and another ends is one training; what was there already is not sent again."""
    first = Driver(run)
    first.trial(0, 2)
    first.stream.end("unfinished")
    run.raise_incarnation()
    second = Driver(run)
    second.trial(0, 3, "COMPLETE")
    second.stream.end("done")
    name = f"{STUDY}/0000"
    assert Tool.epochs == {name: [1, 2, 3]}
    assert [call for call in Tool.calls if call.startswith("start")] == [f"start {name}"] * 2


def test_a_lost_seed_is_told_when_it_is_whole(run: RunDir) -> None:
    """One that ended by no fault of its method is taken up again: until then there is nothing to tell."""
    driver = Driver(run)
    driver.seed(0, again=True)
    driver.seed(0)
    driver.stream.end("done")
    assert next(iter(Tool.endings.values())).state == "COMPLETE"
    assert Tool.epochs == {f"{STUDY}/seed0-c0ffee00": [1]}


def test_one_that_raises_is_named_and_left_out(run: RunDir) -> None:
    """A notice says which tracker and why; the run goes on."""
    Tool.dies_at = 1
    driver = Driver(run)
    driver.whole()
    line = "the tracker tool has failed and is left out from now on: ConnectionError: the server is down"
    assert driver.notices == [line]
    assert Tool.calls == ["begin"]


def test_one_that_hangs_holds_nobody(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver tells all its events meanwhile, what waits does not grow beyond the trainings, the end is bounded."""
    monkeypatch.setattr(_tracking, "LIMIT_S", 0.2)
    Tool.hangs = True
    driver = Driver(run)
    tracking = driver.stream.observers[1]
    assert isinstance(tracking, Tracking)
    for _ in range(3):
        driver.trial(0, 3, "COMPLETE")
        driver.trial(1, 3, "COMPLETE")
    assert len(tracking._todo) <= 2
    driver.stream.end("done")
    (line,) = driver.notices
    assert line == "the tracker tool has not taken everything within 0 s: 'resume' sends what it lacks"
    assert Tool.endings == {}
    Tool.lets_go.set()
    assert tracking._thread is not None
    tracking._thread.join()


def test_a_driver_that_was_taken_over_sends_nothing(run: RunDir) -> None:
    """The newer driver has a tracker of its own."""
    driver = Driver(run)
    driver.trial(0, 1, "COMPLETE")
    run.raise_incarnation()
    driver.trial(1, 1, "COMPLETE")
    driver.stream.end("unfinished")
    assert f"end {STUDY}/0001 COMPLETE" not in Tool.calls
    assert "close unfinished" not in Tool.calls


def test_a_vanished_storage_is_waited_for(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is made in its place, and the tool hears nothing until it is back; then it is told all."""
    monkeypatch.setattr(files, "STORAGE_POLL_S", 0.01)
    caplog.set_level("INFO")
    Driver(run).whole()
    run.tracked_by("tool").unlink()
    Tool.calls, Tool.epochs = [], {}
    tracking, away = Tracking("tool", run), run.path.with_name("away")
    stream, begun = Stream(run, [tracking]), StageStarted(run.name, str(run.path), run.read_incarnation(), Standing())
    stream.tell(Checked({run.name: Standing()}))
    run.path.rename(away)
    stream.tell(begun)
    while "mine has vanished" not in caplog.text:
        assert tracking._thread is not None
        assert tracking._thread.is_alive()
        time.sleep(0.01)
    assert (run.path.exists(), Tool.calls) == (False, [])
    away.rename(run.path)
    stream.tell(begun)
    stream.end("done")
    assert Tool.epochs == EPOCHS


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that there is not, or that is listed twice, is one line; so is one whose tool is not installed."""
    check_names(["mlflow", "wandb", "trackio"])
    with pytest.raises(UserError, match="mlflow"):
        check_names(["mlfow"])
    with pytest.raises(UserError, match="twice"):
        check_names(["mlflow", "mlflow"])
    monkeypatch.setattr(_find, "find_spec", lambda package: package)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    with pytest.raises(UserError, match="set WANDB_DIR"):
        check_installed(["wandb"], place("s3://bucket/runs"))
    monkeypatch.setattr(_find, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"pip install 'cotuning_tune\[trackio\]'") as told:
        check_installed(["trackio"], Path())
    assert told.value.key == KEY


@pytest.mark.filterwarnings("ignore")  # the tools' own
@pytest.mark.parametrize("name", stores.READERS)
def test_each_tool_has_the_run_once(run: RunDir, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A real tool has the run's own numbers, after a driver that stopped amid a trial and one that ended the run."""
    if find_spec(name) is None:
        pytest.skip(f"NOT TESTED WITH {name}: it is not installed")
    monkeypatch.setattr(_tracking, "tracker", lambda _: _find.tracker(name))
    monkeypatch.setattr(_tracking, "LIMIT_S", 600.0)
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_DIR", "TRACKIO_DIR"):
        monkeypatch.setenv(variable, "")  # so that what a tool sets is undone
        monkeypatch.delenv(variable)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    first = Driver(run)
    first.trial(0, 2)
    first.stream.end("unfinished")
    run.raise_incarnation()
    second = Driver(run)
    second.whole()
    assert first.notices == second.notices == []
    ended = (("COMPLETE", 43.0), ("PRUNED", 42.0), ("FAIL", None))
    trials = [
        {"number": number, "state": state, "score": score, "values": {"optim/lr": 0.1 + number}}
        for number, (state, score) in enumerate(ended)
    ]
    write_json(run.study(STUDY).summary, {"trials": trials})
    stores.assert_same(stores.READERS[name](run.path), stores.of_run(run.path))
