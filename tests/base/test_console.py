"""The progress line: durations, the estimate, terminals and plain files."""

import io

import pytest

from cotuning_tune.base import console
from cotuning_tune.base.console import ProgressLine, duration


class Clock:
    """Stands for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console, "time", made)
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (120, "2 min"),
        (3600, "60 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Seconds below 90, minutes below 90, then hours and minutes."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "before", "eta"),
    [(2, 10, 0, "ETA 40 s"), (6, 10, 5, "ETA 40 s"), (5, 10, 5, "ETA unknown"), (10, 10, 0, "took 10 s")],
)
def test_estimate(clock: Clock, done: int, total: int, before: int, eta: str) -> None:
    """The estimate counts only what this driver did itself."""
    stream = io.StringIO()
    line = ProgressLine(stream, "search")
    clock.now += 10
    line.show(done, total, "detail", before)
    assert stream.getvalue() == f"search: {done}/{total} · detail · {eta}\n"


def test_the_start_does_not_count_for_every_trial(clock: Clock) -> None:
    """Workers that start for 20 s, then two trials at a time of ten epochs, a second each: the 24 take two minutes."""
    stream = Terminal()
    line, told = ProgressLine(stream, "search"), []
    clock.now += 19
    for epoch in range(1, 16):
        clock.now += 1
        for half in (2 * epoch - 1, 2 * epoch):  # both trials report in turn
            line.show(half // 20 * 2, 24, "x", share=half / 10 - half // 20 * 2)
        told.append(stream.getvalue().rpartition(" · ")[2].rstrip())
    assert told[:7] == ["ETA unknown"] * 7
    assert told[8:] == ["ETA 2 min"] * 7


def test_long_trials_are_foretold_early(clock: Clock) -> None:
    """Where an epoch takes ten minutes the second one already tells what the other nine trials and a bit will take."""
    stream = Terminal()
    line = ProgressLine(stream, "search")
    for epoch in (1, 2):
        clock.now += 600
        line.show(0, 10, "x", share=epoch / 10)
    assert stream.getvalue().rstrip().endswith("ETA 16 h 20 min")


def test_a_total_that_grows(clock: Clock) -> None:
    """While new trials are drawn no end is foretold; afterwards it is."""
    stream = io.StringIO()
    line = ProgressLine(stream, "search")
    for now in (10, 3600):
        clock.now += now
        line.show(now, 2 * now, "x", until=clock.now + 3600 if now == 10 else clock.now)
    assert [text.rpartition(" · ")[2] for text in stream.getvalue().splitlines()] == [
        "new trials for 60 min",
        "ETA 60 min",
    ]


def test_plain_lines_are_rare(clock: Clock) -> None:
    """Where there is no terminal a line comes every ten seconds at most, and one at the end."""
    stream = io.StringIO()
    line = ProgressLine(stream, "search")
    for done in range(1, 41):
        clock.now += 1
        line.show(done, 40, "x")
    line.end()
    shown = [text.split()[1] for text in stream.getvalue().splitlines()]
    assert shown == ["1/40", "11/40", "21/40", "31/40", "40/40"]


def test_plain_lines_need_news(clock: Clock) -> None:
    """Where there is no terminal nothing is repeated while nothing is done."""
    stream = io.StringIO()
    line = ProgressLine(stream, "search")
    for _ in range(3):
        clock.now += 100
        line.show(1, 40, "x")
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_line_is_written_over(clock: Clock) -> None:
    """On a terminal one line is written over, and a shorter text leaves nothing of the longer one."""
    stream = Terminal()
    line = ProgressLine(stream, "search")
    line.show(1, 4, "a long detail")
    line.show(2, 4, "short")
    line.end()
    first, second = stream.getvalue().removeprefix("\r").removesuffix("\n").split("\r")
    assert first.rstrip() == "search: 1/4 · a long detail · ETA 0 s"
    assert second.rstrip() == "search: 2/4 · short · ETA 0 s"
    assert len(second) >= len(first)
    assert stream.getvalue().endswith("\n")


def test_a_terminal_line_does_not_wrap(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text wider than the terminal is cut: a wrapped line could not be written over."""
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    ProgressLine(stream, "search").show(1, 4, "x" * 100)
    assert len(stream.getvalue().removeprefix("\r")) < 40


def test_a_dumb_terminal_gets_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TERM says that nothing can be written over, nothing is."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    ProgressLine(stream, "search").show(1, 4, "x")
    assert stream.getvalue() == "search: 1/4 · x · ETA 0 s\n"


def test_end_without_a_line(clock: Clock) -> None:
    """A line that was never shown leaves the terminal as it was."""
    stream = Terminal()
    ProgressLine(stream, "search").end()
    assert stream.getvalue() == ""
