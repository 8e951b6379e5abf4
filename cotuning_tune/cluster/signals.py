"""Signals that end a driver cleanly: exit code 85, the lock given back, nothing lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


def _end(number: int, _frame: FrameType | None) -> None:
    for other in ENDING:  # one is enough: what is under way is cleaned up
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)  # Ray passes this one on, a SystemExit it would replace


def end_cleanly() -> None:
    """From now on SIGTERM and SIGUSR1 raise KeyboardInterrupt in the main thread."""
    for number in ENDING:
        signal.signal(number, _end)


@contextmanager
def terminations_passed_on(patience_s: float = 8.0) -> Iterator[None]:
    """While inside, SIGTERM is taken as SIGUSR1: Tune handles that one, and ends its workers cleanly.

    KeyboardInterrupt where it has not ended after ``patience_s``, or a second SIGTERM comes.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGUSR1"):
        yield
        return
    before: list[Handler] = []

    def at_once(_number: int, frame: FrameType | None) -> None:
        _end(signal.SIGTERM, frame)

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, at_once)
        before.append(signal.signal(signal.SIGALRM, at_once))
        signal.setitimer(signal.ITIMER_REAL, patience_s)
        signal.raise_signal(signal.SIGUSR1)

    signal.signal(signal.SIGTERM, first)
    try:
        yield
    finally:
        for handler in before:  # else the timer is somebody else's
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """The same while inside; in other threads than the main one, where handlers cannot be set, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with kept_handlers():
        end_cleanly()
        yield


def survive_hang_up() -> None:
    """From now on SIGHUP, sent where a terminal or a session closes, is ignored, also by processes started later."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def surviving_hang_up() -> Iterator[None]:
    """The same while inside; in other threads than the main one nothing."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.getsignal(signal.SIGHUP)
    survive_hang_up()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers back that were there before: Ray sets its own, and leaves them."""
    numbers = (signal.SIGINT, *ENDING)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)
