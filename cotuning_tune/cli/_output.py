"""Standard output and standard error, in whatever state the terminal is: neither ends a search.

A reader that has left (``| head``, a closed terminal) is replaced by the null device; what an encoding cannot show is
shown escaped.
"""

import errno
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO, cast

LEFT = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.ECONNRESET, errno.ESHUTDOWN)


class ReaderLeft(Exception):  # noqa: N818 - what happened
    """Nobody reads any more what a command does for its reader alone."""


class Output:
    """Both streams of a command. ``drives``: it works on a run, whatever comes of what it says.

    ``for_reader``: it has nothing to do but to say something, and raises ReaderLeft once nobody reads.
    """

    def __init__(self, errors: TextIO | None) -> None:
        self.drives = self.for_reader = False
        self.errors = errors  # standard error itself, of which nobody is told

    def failed(self, stream: TextIO, problem: OSError) -> None:
        """Say no more there. Raises ReaderLeft as above, OSError where a file does not take it (a full disk)."""
        _silence(stream)
        if stream is self.errors:
            return
        if problem.errno in LEFT:
            if self.for_reader:
                raise ReaderLeft from None
        elif self.drives:
            print(
                f"cotuning-tune: the output cannot be written ({problem.strerror}); the run continues", file=sys.stderr
            )
        else:
            raise OSError(problem.errno, problem.strerror, "the output") from None


def _silence(stream: TextIO) -> None:
    """Let a stream go to the null device, what waits in its buffer and what others write there too."""
    with suppress(OSError, io.UnsupportedOperation):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
        stream.flush()


class Lasting:
    """A stream that cannot be broken."""

    def __init__(self, stream: TextIO, output: Output) -> None:
        self._stream, self._output = stream, output

    def write(self, text: str) -> int:
        """Write it, or drop it."""
        try:
            return self._stream.write(text)
        except OSError as problem:
            self._output.failed(self._stream, problem)
            return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write them one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send on what waits, or drop it."""
        try:
            self._stream.flush()
        except OSError as problem:
            self._output.failed(self._stream, problem)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[Output]:
    """While inside, both streams last; whoever leaves it flushes them first, and hears of what a file does not take."""
    before = (sys.stdout, sys.stderr)
    output = Output(sys.stderr)
    with open(os.devnull, "w", encoding="utf-8") as null:  # noqa: PTH123 - not a file
        errors = [_escaping(stream) for stream in before]
        made = [cast(TextIO, Lasting(stream or null, output)) for stream in before]  # none where it is closed (>&-)
        sys.stdout, sys.stderr = made
        try:
            yield output
        finally:
            with suppress(OSError, ReaderLeft, ValueError):
                for stream in made:
                    stream.flush()
            sys.stdout, sys.stderr = before
            for stream, was in zip(before, errors, strict=True):
                if was and isinstance(stream, io.TextIOWrapper):
                    with suppress(OSError, ValueError):
                        stream.reconfigure(errors=was)


def _escaping(stream: TextIO | None) -> str:
    """Let a stream escape what its encoding cannot show; how it did before, '' where it cannot."""
    was = getattr(stream, "errors", None) or ""
    if not (was and isinstance(stream, io.TextIOWrapper)):
        return ""
    with suppress(OSError):
        stream.reconfigure(errors="backslashreplace")
    return was


def print_json(value: Mapping[str, object]) -> None:
    """What a command shows, for programs; a number that there is not is null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
