"""A search of so many hours: all studies get the same number of trials, whatever dies, and the time is spent once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.base.toml_text import set_key
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.runs import budget, clock
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.rows import CONFIRMS
from cotuning_tune.search.status import status_table, time_line
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import Issue, Studies
from tests.search.ends import complete

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss", "l2_sp"]
backbone = "tiny_cnn"
hours = 8
sampler = "{sampler}"
"""
HOUR = 3600.0


class Killed(BaseException):
    """Stands for the death of the driver."""


class Time:
    """A clock that tests set; each driver's own: what it says between two of them is not counted."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    """Each look at the files is a new one, and no thread writes by itself."""
    made = Time()
    monkeypatch.setattr(clock, "monotonic", made)
    monkeypatch.setattr(budget, "monotonic", made)
    monkeypatch.setattr(clock, "EVERY_S", 1e6)
    return made


def experiment(sampler: str = "random", **keys: object) -> Experiment:
    text = TEXT.format(sampler=sampler)
    for key, value in keys.items():
        text = set_key(text, ["experiment", key], value)
    return parse(text, "timed")


def begun(run: RunDir, asked: Experiment, said: list[str] | None = None) -> Studies:
    """The studies of a driver that has just started; its clock may run from now on."""
    studies = Studies(asked, open_storage(run), run, say=(said if said is not None else []).append)
    studies.budget.clock.driving = True
    return studies


def end(studies: Studies, issue: Issue) -> None:
    """Complete a trial with a value that follows from its parameters alone."""
    complete(studies.by_name[issue.study.name], issue.number, 50.0 + 1000 * issue.values["optim/lr"])  # type: ignore[operator]


def search(studies: Studies, time: Time, hours_each: float = 1.0) -> list[Issue]:
    """Hand out all that there is, one after the other, each of the same length."""
    issues = []
    while (issue := studies.next()) is not None:
        issues.append(issue)
        time.now += HOUR * hours_each
        end(studies, issue)
    assert studies.finished
    return issues


def numbers(studies: Studies) -> list[int]:
    return [study.drawn for study in studies.by_name.values()]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_round_that_has_begun_is_finished(tmp_path: Path, time: Time, sampler: str) -> None:
    """Of 8 hours and trials of one hour three studies get three trials each: the third round begins in the seventh."""
    said: list[str] = []
    run = RunDir(tmp_path)
    studies = begun(run, experiment(sampler), said)
    issues = search(studies, time)
    assert numbers(studies) == [3, 3, 3]
    assert [study.budget for study in studies.by_name.values()] == [3, 3, 3]
    assert [issue.number for issue in issues[:9]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [CONFIRMS in issue.attrs for issue in issues] == [False] * 9 + [True] * 9
    assert said == ["the 8 hours of the search are used: every study has 3 trials"]
    assert read_json(run.time_used).items() >= {"hours": 8.0, "trials": 3}.items()
    assert (studies.total, studies.full) == (18, True)


def test_trials_that_come_first_end_it(tmp_path: Path, time: Time) -> None:
    """With ``trials`` too the search ends at the first of both; of unused hours nothing is said or kept."""
    said: list[str] = []
    run = RunDir(tmp_path)
    studies = begun(run, experiment(trials=2), said)
    search(studies, time)
    assert (numbers(studies), said, run.time_used.exists()) == ([2, 2, 2], [], False)
    again = begun(run, experiment(trials=2))
    assert (again.finished, again.next()) == (True, None)


def test_hours_that_come_first_end_it(tmp_path: Path, time: Time) -> None:
    """Where there is time for fewer than ``trials``, all studies have as many as there was time for."""
    studies = begun(RunDir(tmp_path), experiment(trials=5))
    search(studies, time)
    assert numbers(studies) == [3, 3, 3]


def test_too_short_for_one_round(tmp_path: Path, time: Time) -> None:
    """One round is drawn all the same, and a line says why there is not a second."""
    said: list[str] = []
    studies = begun(RunDir(tmp_path), experiment(hours=0.5), said)
    search(studies, time)
    assert numbers(studies) == [1, 1, 1]
    assert said == ["the 0.5 hours of the search are used: every study has one trial: there was no time for a second"]


def test_what_runs_ends_normally(tmp_path: Path, time: Time) -> None:
    """With trials that run when the hours end nothing is drawn or confirmed before they have ended."""
    studies = begun(RunDir(tmp_path), experiment(hours=1))
    running = [studies.next() for _ in range(5)]
    time.now += 2 * HOUR
    last = studies.next()
    assert last is not None
    assert (last.study.method, last.number) == ("l2_sp", 1)
    assert (studies.next(), studies.finished) == (None, False)
    for issue in [*running, last]:
        assert issue is not None
        end(studies, issue)
    assert all(CONFIRMS in issue.attrs for issue in search(studies, time))
    assert numbers(studies) == [2, 2, 2]


def test_time_without_a_driver_does_not_count(tmp_path: Path, time: Time) -> None:
    """A run whose driver is started anew before each trial, days later, has as many trials as one that lives on."""
    run, issues = RunDir(tmp_path), []
    while True:
        studies = begun(run, experiment())
        with studies.budget.clock.kept(lambda: True):
            if (issue := studies.next()) is None:
                break
            time.now += HOUR
            end(studies, issue)
        issues.append(issue)
        time.now += 100 * HOUR
    assert (numbers(studies), len(issues), studies.finished) == ([3, 3, 3], 18, True)


def test_the_clock_is_kept_within_its_bound(tmp_path: Path, time: Time) -> None:
    """A killed driver loses what has passed since its last write; one that is replaced writes nothing more."""
    run, mine = RunDir(tmp_path), [True]
    studies = begun(run, experiment())
    with studies.budget.clock.kept(lambda: mine[0]):
        assert studies.next() is not None
        time.now += 100
        studies.budget.clock.keep()
        time.now += 9
        assert clock.Clock(run).seconds == 100
        mine[0] = False
    assert clock.Clock(run).seconds == 100


def test_the_thread_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the deeds of its driver the clock is written down too."""
    monkeypatch.setattr(clock, "EVERY_S", 0.001)
    made = clock.Clock(RunDir(tmp_path))
    written: list[float] = []
    done = clock.threading.Event()

    def write(path: Path, value: dict[str, float]) -> None:
        written.append(value["seconds"])
        if len(written) == 3:
            done.set()

    monkeypatch.setattr(clock, "write_json", write)
    with made.kept(lambda: True):
        made.start()
        assert done.wait(60)
    assert written == sorted(written)


def test_nothing_counts_while_nothing_is_drawn(tmp_path: Path, time: Time) -> None:
    """The time of confirmations, and what runs beyond the hours, is not counted: an extension has its full length."""
    run = RunDir(tmp_path)
    studies = begun(run, experiment())
    search(studies, time)
    assert clock.Clock(run).seconds == 8 * HOUR
    assert budget.extend_hours(run, 8.0, 3) == 11.0
    assert not studies.finished
    search(studies, time)
    assert (numbers(studies), clock.Clock(run).seconds) == ([4, 4, 4], 11 * HOUR)
    assert [step["to"] for step in budget.growth(run)] == [11.0]


def test_extended_after_its_end_by_another_driver(tmp_path: Path, time: Time) -> None:
    """Hours that a finished run is given are drawn in by whoever resumes it, and their end is fixed anew."""
    run = RunDir(tmp_path)
    search(begun(run, experiment()), time)
    budget.extend_hours(run, 8.0, 1)
    studies = begun(run, experiment())
    assert not studies.finished
    search(studies, time)
    assert numbers(studies) == [4, 4, 4]
    assert read_json(run.time_used).items() >= {"hours": 9.0, "trials": 4}.items()


def test_trials_and_hours_each_grow_alone(tmp_path: Path, time: Time) -> None:
    """The first of both ends an extended search too; a number that the experiment does not limit cannot grow."""
    run = RunDir(tmp_path)
    asked = experiment(trials=2)
    search(begun(run, asked), time)
    assert budget.extend_hours(run, 8.0, 1) == 9.0
    assert begun(run, asked).finished
    assert budget.extend(run, 2, 1) == 3
    studies = begun(run, asked)
    search(studies, time)
    assert numbers(studies) == [3, 3, 3]
    assert (studies.budget.hours, studies.budget.most) == (9.0, 3)
    with pytest.raises(UserError, match="--hours H adds to them"):
        budget.extend(RunDir(tmp_path / "a"), 0, 1)
    with pytest.raises(UserError, match="--trials N adds to them"):
        budget.extend_hours(RunDir(tmp_path / "a"), 0.0, 1)
    for more in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="more than 0 hours"):
            budget.extend_hours(run, 8.0, more)


def test_more_trials_than_the_hours_gave_need_hours(tmp_path: Path, time: Time) -> None:
    """Where the hours are used no trial would be drawn: the extension is refused with the one that helps."""
    run = RunDir(tmp_path)
    search(begun(run, experiment(trials=100)), time)
    with pytest.raises(UserError, match=r"the 8 hours of .* are used: --hours H adds to them"):
        budget.extend(run, 100, 1, 8.0)
    budget.extend_hours(run, 8.0, 1)
    assert budget.extend(run, 100, 1, 8.0) == 101


class Writes:
    """Counts the writes of a run, and kills its driver before or after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.dies, self.after = 0, 0, False
        for module in (clock, budget):
            monkeypatch.setattr(module, "write_json", self._around(module.write_json))

    def _around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.dies and not self.after:
                raise Killed
            found = write(*arguments, **named)
            if self.count == self.dies:
                raise Killed
            return found

        return around

    def watch(self, studies: Studies) -> None:
        """Watch the storage too."""
        storage: Any = studies.storage
        for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values"):
            setattr(storage, name, self._around(getattr(storage, name)))


SHORT = experiment(hours=3.5, methods=["fine_tune", "bss"])  # two rounds, also where a trial is trained again


def _lived(run: RunDir, time: Time, writes: Writes) -> Studies:
    """A search whose driver is started again after its death; the clock is written down at each trial's end."""
    while True:
        studies = begun(run, SHORT)
        writes.watch(studies)
        try:
            while (issue := studies.next()) is not None:
                time.now += HOUR
                studies.budget.clock.keep()
                end(studies, issue)
        except Killed:
            fixed = json.loads(run.time_used.read_text())["trials"] if run.time_used.exists() else None
            time.now += 50 * HOUR
            again = Studies(SHORT, open_storage(run), run)
            confirms = any(study.confirming() for study in again.by_name.values())
            assert fixed == numbers(again)[0] or not confirms, "confirmed before the end was on disk"
            continue
        assert studies.finished
        return studies


def test_killed_between_any_two_writes(tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the end of the hours, and anywhere else: the same trials, the same end, nothing more is ever drawn."""
    writes = Writes(monkeypatch)
    (tmp_path / "whole").mkdir()
    whole = _lived(RunDir(tmp_path / "whole"), time, writes)
    expected = {name: [trial.params for trial in study.trials()] for name, study in whole.by_name.items()}
    every = writes.count
    assert every > 30
    for number in range(1, every + 1):
        for after in (False, True):
            path = tmp_path / f"{number}{after}"
            path.mkdir()
            writes.count, writes.dies, writes.after = 0, number, after
            studies = _lived(RunDir(path), time, writes)
            before = numbers(studies)
            assert before in ([2, 2], [3, 3])  # a third round where an hour was lost with its driver
            for name, study in studies.by_name.items():
                assert [trial.params for trial in study.own_trials()][:2] == expected[name][:2]
                assert len(study.confirming()) == before[0]
            resumed = begun(RunDir(path), SHORT)
            assert (resumed.finished, resumed.next(), numbers(resumed)) == (True, None, before)


def test_a_reader_sees_the_rounds_and_the_time(tmp_path: Path, time: Time) -> None:
    """``status`` shows the rounds that have begun, the time used, and writes nothing."""
    run = RunDir(tmp_path)
    studies = begun(run, experiment())
    for _ in range(4):
        issue = studies.next()
        assert issue is not None
        time.now += 0.5 * HOUR
        end(studies, issue)
    studies.budget.clock.keep()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    rows = status_table(run, experiment()).rows
    assert [(row[1], row[2]) for row in rows] == [("2", "2"), ("2", "1"), ("2", "1")]
    assert time_line(run, experiment()) == "2.00 of 8 hours of search are used"
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert time_line(run, parse(TEXT.format(sampler="tpe").replace("hours = 8", "trials = 3"), "x")) == ""


def test_until_when_rounds_begin(tmp_path: Path, time: Time) -> None:
    """Who watches learns when the hours end; 0 where no further round will begin."""
    studies = begun(RunDir(tmp_path), experiment(trials=2))
    until = []
    while (issue := studies.next()) is not None:
        until.append(studies.budget.until / HOUR)
        time.now += HOUR
        end(studies, issue)
    assert until == [8.0] * 3 + [0.0] * 9
