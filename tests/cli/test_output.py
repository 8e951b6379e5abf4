"""Output that nobody reads, that cannot be encoded or written, and a session that is closed."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune import cli
from cotuning_tune.cli import _running
from cotuning_tune.runs.events import Ended, StageStarted, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "search_spaces" / "tiny.toml")


class _Broken(io.StringIO):
    """A stream that takes nothing, for one reason."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


Said = pytest.CaptureFixture[str]


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _work(monkeypatch: pytest.MonkeyPatch, do: Callable[[], int]) -> None:
    """Let the command ``search`` do this."""
    monkeypatch.setattr(_running, "request_of", lambda _: None)
    monkeypatch.setattr(_running, "_carry_out", lambda _: do())


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("code", [0, 1])
def test_a_search_without_its_reader(monkeypatch: pytest.MonkeyPatch, capsys: Said, number: int, code: int) -> None:
    """It goes on to its end, and the exit code is its own; a full disk under the output is told once."""
    done = []

    def search() -> int:
        for step in range(3):
            _say("a line\n")
            done.append(step)
        return code

    _work(monkeypatch, search)
    monkeypatch.setattr(sys, "stdout", _Broken(number))
    assert cli.main(["search", TINY]) == code
    assert done == [0, 1, 2]
    assert ("the run continues" in capsys.readouterr().err) == (number == errno.ENOSPC)


def test_a_pipe_without_its_reader(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """What other code writes to the same place later is dropped too; nothing is left in the buffer to fail at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    _work(monkeypatch, lambda: (_say("x" * 100_000), os.write(writer, b"x"), 0)[2])
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["search", TINY]) == 0
    assert capsys.readouterr().err == ""
    assert sys.stdout is stream
    stream.close()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_a_short_command_without_its_reader(monkeypatch: pytest.MonkeyPatch, capsys: Said, number: int) -> None:
    """It ends quietly."""
    monkeypatch.setattr(sys, "stdout", _Broken(number))
    assert cli.main(["list", "methods"]) == 0
    assert capsys.readouterr().err == ""


def test_a_short_command_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """What it had to say is lost: one line and 2."""
    monkeypatch.setattr(sys, "stdout", _Broken(errno.ENOSPC))
    assert cli.main(["list", "methods"]) == 2
    assert capsys.readouterr().err == "cotuning-tune: the output: No space left on device\n"


def test_a_command_for_its_reader(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """Following a log ends where nobody reads it."""
    from cotuning_tune.cli import _launch

    def follow(_: object) -> int:
        while True:
            _say("a line\n")

    monkeypatch.setattr(_launch, "_logs", follow)
    monkeypatch.setattr(sys, "stdout", _Broken(errno.EPIPE))
    assert cli.main(["launch", "logs", "-f"]) == 0
    assert capsys.readouterr().err == ""


def test_no_output_at_all(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """Standard output that was closed (>&-) is no stream: a search shows its progress to nobody."""
    from cotuning_tune.base.console import ProgressLine

    _work(monkeypatch, lambda: ProgressLine(sys.stdout, "search").show(1, 2, "x") or 0)
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["search", TINY]) == 0
    assert capsys.readouterr().err == ""


def test_an_encoding_without_the_letters(monkeypatch: pytest.MonkeyPatch, driven: RunDir, capsys: Said) -> None:
    """The terminal of a run shows its lines in ASCII; the stream is afterwards as it was."""
    from cotuning_tune.pipeline.terminal import Terminal

    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii")

    def search() -> int:
        stream = Stream(driven, [Terminal()])
        stream.tell(StageStarted(driven.name, "runs/vögel", 1, Standing(budget=4, trials={"a": {}}), concurrent=2))
        stream.tell(Ended("done"))
        assert len(stream.observers) == 1
        return 0

    _work(monkeypatch, search)
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert cli.main(["search", TINY]) == 0
    assert raw.getvalue().splitlines()[0] == b"runs/v\\xf6gel: 1 studies, 4 trials, 2 at a time"
    assert b"search: 0/4 \\xb7 0 running" in raw.getvalue()
    assert ascii_only.errors == "strict"


def test_a_closed_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP does not reach a command that drives a run, nor what it starts; others have it as before."""
    before = signal.getsignal(signal.SIGHUP)

    def search() -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        child = f"import signal, sys; sys.exit(signal.getsignal({signal.SIGHUP:d}) is not signal.SIG_IGN)"
        return subprocess.run([sys.executable, "-S", "-c", child], check=False).returncode

    _work(monkeypatch, search)
    assert cli.main(["search", TINY]) == 0
    assert signal.getsignal(signal.SIGHUP) is before


SCRIPT = """
import sys, time
from cotuning_tune import cli
from cotuning_tune.cli import _running
_running.request_of = lambda _: None
def work(_):
    open("ready", "w").close()
    for step in range(200):
        print("a line", step, flush=True)
        print("a word", step, file=sys.stderr, flush=True)
        time.sleep(0.05)
        if step > 3 and {until}:
            break
    open("done", "w").close()
    return 0
_running._carry_out = work
sys.exit(cli.main(["search", "x"]))
"""


def test_a_terminal_that_goes(tmp_path: Path) -> None:
    """Its session leader ends with the terminal's other side closed: SIGHUP and EIO; the search ends with 0."""
    import pty

    until = "__import__('os').path.exists('gone')"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(
            sys.executable, [sys.executable, "-c", SCRIPT.format(until=until)], {**os.environ, "PYTHONPATH": str(ROOT)}
        )
    deadline = time.monotonic() + 120
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.close(terminal)
    (tmp_path / "gone").touch()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "done").exists()


def test_a_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its traceback, whose last line says what it is."""

    def search() -> int:
        raise KeyError("inside")

    _work(monkeypatch, search)
    with pytest.raises(KeyError) as caught:
        cli.main(["search", TINY])
    assert caught.value.__notes__ == [
        "cotuning-tune: a fault of the program (KeyError): please report it with these lines; what is finished is kept,"
        " 'resume' continues"
    ]


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, 2), (errno.EACCES, 2), (errno.EIO, 85)])
def test_a_system_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: Said, number: int, code: int) -> None:
    """One line, and the exit code that is right for it."""

    def search() -> int:
        raise OSError(number, os.strerror(number), "/runs/x")

    _work(monkeypatch, search)
    assert cli.main(["search", TINY]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cotuning-tune: /runs/x: {os.strerror(number)}")
    assert line.endswith("'resume' continues") == (code == 85)


def test_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapped stream gives all that a stream has."""
    seen: list[Any] = []
    _work(monkeypatch, lambda: seen.extend([sys.stdout.isatty(), sys.stdout.encoding]) or 0)
    assert cli.main(["search", TINY]) == 0
    assert seen == [False, sys.stdout.encoding]


COLOURED = """
import sys
from cotuning_tune import cli
from cotuning_tune.cli import _running
_running.request_of = lambda _: None
def work(_):
    import optuna
    from cotuning_tune.base.console import ProgressLine
    optuna.logging.get_logger("optuna.study").warning("a word")
    ProgressLine(sys.stdout, "search").show(1, 2, "x")
    return 0
_running._carry_out = work
sys.exit(cli.main(["search", "x"]))
"""


def _in_terminal(environment: dict[str, str]) -> bytes:
    """All that the script writes to a terminal of its own."""
    import pty

    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", COLOURED], {**plain, "PYTHONPATH": str(ROOT), **environment})
    written = bytearray()
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # EIO: the other side is closed
            read = b""
        if not read:
            break
        written += read
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return bytes(written)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours(environment: dict[str, str], coloured: bool) -> None:
    """A library's warnings have colours in a terminal that shows them, where NO_COLOR does not forbid it."""
    written = _in_terminal(environment)
    assert b"a word" in written
    assert (b"\x1b[" in written) == coloured
    assert (b"\rsearch: 1/2" in written) == (environment["TERM"] != "dumb")


def test_no_colours_in_a_pipe() -> None:
    """What is piped or written to a file holds no escape code."""
    done = subprocess.run(
        [sys.executable, "-c", COLOURED],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        capture_output=True,
    )
    assert done.returncode == 0
    assert b"a word" in done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
