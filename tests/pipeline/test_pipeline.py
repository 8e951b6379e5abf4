"""The whole road without a command line and without a terminal."""

from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest

from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.pipeline import Cluster, NewRun, Request, carry_out, extend
from cotuning_tune.pipeline import road as module
from cotuning_tune.pipeline.request import experiment_of
from cotuning_tune.plan.write import first_lines, question_line
from cotuning_tune.runs.events import (
    Checked,
    Ended,
    EpochEnded,
    Event,
    Notice,
    Reported,
    SeedEnded,
    SeedStarted,
    Selected,
    StageStarted,
    TrialEnded,
    TrialStarted,
)
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 2
seeds = [0, 1]
sampler = "random"
selection = "max"
[data.synthetic]
images = 32
[task]
size = 16
resize = 16
[train]
epochs = 2
batch_size = 8
"""


class Heard:
    """An observer that keeps what it hears, and how many trainings ran after each event."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.running: list[int] = []

    def __call__(self, event: Event, now: Stream) -> None:
        self.events.append(event)
        self.running.append(now.standing.running)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return parse(TEXT, "road", tmp_path)


def request_for(experiment: Experiment, folder: Path, **values: object) -> Request:
    run = NewRun(storage=folder / "runs")
    return replace(Request(experiment=experiment, run=run, cluster=Cluster(cpus=2)), **values)  # type: ignore[arg-type]


def test_a_whole_run_without_a_terminal(
    experiment: Experiment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Search, selection, retraining and report of a request: every event in its place, and nothing is printed.

    That nothing of the command line is imported, the import contract shows.
    """
    heard = Heard()
    outcome = carry_out(request_for(experiment, tmp_path), [heard])
    assert outcome.lacking == ""
    assert outcome.report is not None
    assert (outcome.run.report / "index.html").exists()
    kinds = [type(event) for event in heard.events]
    assert heard.events[1] == Notice(question_line(experiment))
    assert (kinds[0], kinds[-1], kinds.count(Ended)) == (Checked, Ended, 1)
    assert kinds.index(Reported) > kinds.index(StageStarted)
    counts = {
        Checked: 1,
        Reported: 1,
        StageStarted: 3,
        TrialStarted: 4,
        TrialEnded: 4,
        Selected: 2,
        SeedStarted: 4,
        SeedEnded: 4,
    }
    assert {kind: kinds.count(kind) for kind in counts} == counts
    assert [event.standing.stage for event in heard.events if isinstance(event, StageStarted)] == [
        "search",
        "retrain",
        "report",
    ]
    epochs = [event for event in heard.events if isinstance(event, EpochEnded)]
    assert sum(event.new for event in epochs) == 4 * 2
    assert max(heard.running) == 2
    assert read_json(outcome.run.summary)["state"] == "done"
    assert capfd.readouterr().out == ""

    again = Heard()
    done = carry_out(Request(experiment=experiment, run=outcome.run, cluster=Cluster(cpus=2)), [again])
    assert done.lacking == ""
    assert not again.of(TrialStarted)
    assert not again.of(SeedStarted)
    assert again.of(Ended) == [Ended("done")]


def test_a_space_with_nothing_to_search(experiment: Experiment, tmp_path: Path) -> None:
    """It is said of the methods whose every trial is the same; not where there is one trial anyway."""
    fixed = "[train.optim]\nlr = 0.01\nhead_lr_factor = 10\nweight_decay = 0.0\n"
    pinned = parse(TEXT.replace('"bss"', '"l2_sp"') + fixed, "road", tmp_path)
    told = "nothing is searched for fine_tune: one trial is enough, its seeds are the repeats"
    assert [name for name in pinned.config.methods if not pinned.order(name)] == ["fine_tune"]
    assert first_lines(pinned) == [question_line(pinned), told]
    assert first_lines(experiment) == [question_line(experiment)]
    once = parse(pinned.text.replace("trials = 2", "trials = 1"), "road", tmp_path)
    assert first_lines(once) == [question_line(once)]


def test_events_say_what_the_files_say(experiment: Experiment, tmp_path: Path) -> None:
    """Selections and results told are those on disk; more trials later are told as such."""
    heard = Heard()
    run = carry_out(request_for(experiment, tmp_path, retrain=False), [heard]).run
    for event in heard.of(Selected):
        assert isinstance(event, Selected)
        chosen = read_json(run.study(event.study).selection)
        assert (chosen["trial"], chosen["val_score"]) == (event.trial, event.val_score)
    growth = extend(run, 1)
    assert (growth.trials, growth.driven) == (3, False)
    found, same = experiment_of(run.path)
    more = Heard()
    carry_out(Request(experiment=same, run=found, retrain=False, cluster=Cluster(cpus=2)), [more])
    assert sorted(event.trial for event in more.of(TrialEnded) if isinstance(event, TrialEnded)) == [2, 2]


def test_hours_too_short_for_anything(tmp_path: Path) -> None:
    """Every study has one trial all the same, which is said; a resume draws no more, further hours do."""
    timed = parse(TEXT.replace("trials = 2", "hours = 1e-6"), "road", tmp_path)
    heard = Heard()
    run = carry_out(request_for(timed, tmp_path, retrain=False), [heard]).run
    assert len(heard.of(TrialEnded)) == 2
    (line,) = [e.text for e in heard.of(Notice) if isinstance(e, Notice) and "hours" in e.text]
    assert line == "the 1e-06 hours of the search are used: every study has one trial: there was no time for a second"
    assert 0 < read_json(run.clock)["seconds"] <= 3600e-6
    again = Heard()
    found, same = experiment_of(run.path)
    carry_out(Request(experiment=same, run=found, retrain=False, cluster=Cluster(cpus=2)), [again])
    assert not again.of(TrialStarted)
    assert extend(run, hours=1).hours == pytest.approx(1)
    with pytest.raises(UserError, match="as many trials as its hours give"):
        extend(run, 1)


@pytest.mark.parametrize(
    ("problem", "ended"),
    [
        (Unfinished("the search was interrupted"), Ended("unfinished", "the search was interrupted")),
        (KeyboardInterrupt("SIGTERM"), Ended("unfinished", "interrupted by SIGTERM")),
        (KeyboardInterrupt(), Ended("unfinished", "interrupted")),
        (UserError("no such thing"), Ended("failed", "no such thing")),
        (ValueError("odd\nand more"), Ended("failed", "ValueError: odd")),
        (OSError(5, "Input/output error", "/x"), Ended("unfinished", "/x: Input/output error")),
        (OSError(30, "Read-only file system", "/x"), Ended("failed", "/x: Read-only file system")),
    ],
)
def test_how_it_ended(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException, ended: Ended
) -> None:
    """Signals leave it unfinished, mistakes and faults failed, each with one line; the exception is raised on."""

    def fails(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(module, "connected", fails)
    heard = Heard()
    with pytest.raises(type(problem)):
        carry_out(request_for(experiment, tmp_path), [heard])
    assert heard.of(Ended) == [ended]
    summary = read_json(RunDir(tmp_path / "runs" / "road").summary)
    assert (summary["state"], summary["reason"]) == (ended.state, ended.reason)


def test_refused_before_anything(experiment: Experiment, tmp_path: Path) -> None:
    """A mistake in what was asked is raised before a folder is made, and nothing is told."""
    heard = Heard()
    missing = replace(experiment, config=replace(experiment.config, weights=str(tmp_path / "gone.pth")))
    with pytest.raises(UserError):
        carry_out(request_for(missing, tmp_path), [heard])
    assert heard.events == []
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match="name a database"):
        NewRun(storage="s3://bucket/runs")
    with pytest.raises(UserError, match="or more"):
        request_for(experiment, tmp_path, searches=0)


def test_a_lost_cluster_is_the_last_word(driven: RunDir) -> None:
    """Where the cluster has gone one urgent line says how to continue, and the run ends unfinished."""
    heard = Heard()
    stream = Stream(driven, [heard])
    stream.tell(Checked({driven.name: stream.standing}))
    module._cluster_lost(stream, "the Ray cluster has gone")
    text = f"the Ray cluster has gone; nothing is lost, continue with: cotuning-tune resume {driven.path}"
    assert heard.events[1:] == [Notice(text, urgent=True), Ended("unfinished", "the Ray cluster has gone")]


def test_the_set_of_events_is_closed() -> None:
    """Every event is a frozen record of the thirteen that there are."""
    kinds = get_args(Event)
    assert len(kinds) == 13
    for kind in kinds:
        assert kind.__dataclass_params__.frozen
        assert fields(kind)
