"""The stream of a run's events: tallies that follow them, and observers that cannot harm a run."""

import threading

import pytest

from cotuning_tune.runs import stream as module
from cotuning_tune.runs.events import (
    Checked,
    Ended,
    EpochEnded,
    Event,
    Notice,
    SeedEnded,
    SeedStarted,
    StageStarted,
    Standing,
    TrialEnded,
    TrialStarted,
)
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream


def _begun(run: RunDir, *observers: object, **values: object) -> Stream:
    stream = Stream(run, observers)  # type: ignore[arg-type]
    stream.tell(Checked({run.name: Standing()}))
    stream.tell(StageStarted(run.name, str(run.path), 1, Standing(**values)))  # type: ignore[arg-type]
    return stream


def test_trials_are_tallied(driven: RunDir) -> None:
    """As many run as were handed out and have not ended; a failed one is done, a lost one neither runs nor counts."""
    stream = _begun(driven, budget=3, trials={"a": {"complete": 1}}, best={"a": 40.0}, search_seconds=5.0)
    assert (stream.standing.done, stream.standing.running) == (1, 0)
    for trial in (1, 2, 3):
        stream.tell(TrialStarted("a", trial, {}, 4))
    stream.tell(EpochEnded("a", 1, [], 2, 8))
    stream.tell(EpochEnded("a", 1, [], 1, 8))
    now = stream.standing
    assert (now.budget, now.running, now.share) == (4, 3, 3 / 8)
    stream.tell(TrialEnded("a", 1, "PRUNED", 41.0, 2.0, 41.0))
    stream.tell(TrialEnded("a", 2, "LOST", None, 0.0, 41.0))
    stream.tell(TrialEnded("a", 3, "FAIL", None, 1.0, 41.0))
    now = stream.standing
    assert (now.done, now.failed, now.running, now.share, now.search_seconds) == (3, 1, 0, 0, 8.0)
    assert now.best == {"a": 41.0}
    assert now.trials == {"a": {"complete": 1, "pruned": 1, "failed": 1}}


def test_seeds_are_tallied(driven: RunDir) -> None:
    """A seed runs from its start to its end, whether it was tested or failed."""
    stream = _begun(driven, stage="retrain", retrained=1, retrain_budget=3)
    stream.tell(SeedStarted("a", 1))
    stream.tell(SeedStarted("a", 2))
    stream.tell(SeedEnded("a", 1, 80.0, 4.0))
    assert (stream.standing.retrained, stream.standing.running) == (2, 1)
    stream.tell(SeedEnded("a", 2, None, 2.0, "nan"))
    assert (stream.standing.retrained, stream.standing.running, stream.hours) == (3, 0, 6 / 3600)


def test_a_failing_observer_is_named_and_left_out(driven: RunDir) -> None:
    """The others hear every event, and one notice that says which has failed and how."""
    heard: list[Event] = []
    calls: list[Event] = []

    def tracker(event: Event, now: Stream) -> None:
        calls.append(event)
        if isinstance(event, TrialStarted):
            raise ConnectionError("no route\nto host")

    stream = _begun(driven, tracker, lambda event, now: heard.append(event))
    for trial in (0, 1):
        stream.tell(TrialStarted("a", trial, {}, 2))
    stream.end("done")
    text = "tracker has failed and is left out from now on: ConnectionError: no route"
    assert [event for event in heard if isinstance(event, Notice)] == [Notice(text, urgent=True)]
    assert [type(event) for event in heard[-3:]] == [Notice, TrialStarted, Ended]
    assert isinstance(calls[-1], TrialStarted)
    assert calls[-1].trial == 0


def test_an_interrupt_is_no_failure(driven: RunDir) -> None:
    """A signal that arrives while an observer works ends the driver, and the stream stays usable."""

    def interrupted(event: Event, now: Stream) -> None:
        if isinstance(event, TrialStarted):
            raise KeyboardInterrupt

    stream = _begun(driven, interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.tell(TrialStarted("a", 0, {}, 2))
    other = threading.Thread(target=stream.end, args=("unfinished",))
    other.start()
    other.join(60)
    assert stream.ended


def test_a_hanging_observer_holds_up_one_thread(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an observer hangs in one thread, the last words of another are still told."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    inside, free, heard = threading.Event(), threading.Event(), list[Event]()

    def hangs(event: Event, now: Stream) -> None:
        if isinstance(event, TrialStarted):
            inside.set()
            free.wait()

    stream = _begun(driven, hangs, lambda event, now: heard.append(event))
    thread = threading.Thread(target=stream.tell, args=(TrialStarted("a", 0, {}, 2),))
    thread.start()
    inside.wait()
    stream.end("unfinished", "the cluster has gone")
    assert heard[-1] == Ended("unfinished", "the cluster has gone")
    free.set()
    thread.join()


def test_observers_of_a_while(driven: RunDir) -> None:
    """They hear what happens inside, no more."""
    heard: list[Event] = []
    stream = _begun(driven)
    with stream.also(lambda event, now: heard.append(event)):
        stream.notice("inside")
    stream.notice("outside")
    assert heard == [Notice("inside")]


def test_one_event_at_a_time(driven: RunDir) -> None:
    """Threads tell events side by side: none is lost from the tallies, observers are called one by one."""
    inside: list[int] = []
    most: list[int] = []

    def observer(event: Event, now: Stream) -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    stream = _begun(driven, observer)

    def tell(study: str) -> None:
        for trial in range(50):
            stream.tell(TrialStarted(study, trial, {}, 100))

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.standing.running == 200
    assert max(most) == 1
