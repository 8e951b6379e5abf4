"""What an exception that ends a command means: its exit code, its line."""

import errno
import os

import pytest

from cotuning_tune.base.endings import Ending, ending_of, one_line
from cotuning_tune.base.errors import Held, TrainingFailed, Unfinished, UserError


def _of(module: str, name: str, *bases: type) -> type[Exception]:
    """A type of exception as another package would have it."""
    kind = type(name, bases or (Exception,), {})
    kind.__module__ = module
    return kind


def _system(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/runs/x")


@pytest.mark.parametrize(
    ("problem", "driving", "else_", "line"),
    [
        (UserError("a line"), 2, 2, "a line"),
        (Held("somebody's"), 75, 75, "somebody's"),
        (TrainingFailed("NaN"), 1, 1, "the training failed: NaN"),
        (Unfinished("the disk is gone"), 85, 85, "the disk is gone"),
        (KeyboardInterrupt("SIGTERM"), 85, 85, "interrupted by SIGTERM"),
        (KeyboardInterrupt(), 85, 85, "interrupted"),
        (_system(errno.EROFS), 2, 2, "/runs/x: Read-only file system"),
        (_system(errno.EACCES), 2, 2, "/runs/x: Permission denied"),
        (_system(errno.EEXIST), 2, 2, "/runs/x: File exists"),
        (_system(errno.ENOENT), 2, 2, "/runs/x: No such file or directory"),
        (_system(errno.ENOSPC), 85, 2, "/runs/x: No space left on device"),
        (_system(errno.EIO), 85, 1, "/runs/x: Input/output error"),
        (_system(errno.ESTALE), 85, 1, "/runs/x: Stale file handle"),
        (OSError("s3://b/x: AccessDenied"), 1, 1, "s3://b/x: AccessDenied"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 85, 1, "a -> b: Invalid cross-device link"),
        (MemoryError(), 1, 1, "this machine has no memory left"),
        (
            _of("sqlalchemy.exc", "OperationalError")("(psycopg.Error) no\nserver"),
            85,
            2,
            "the storage of the studies failed (OperationalError: (psycopg.Error) no server)",
        ),
        (
            _of("optuna.exceptions", "StorageInternalError")("postgresql://me:secret@h/d is gone"),
            85,
            2,
            "the storage of the studies failed (StorageInternalError: postgresql://me:***@h/d is gone)",
        ),
        (
            _of("ray.exceptions", "NodeDiedError")("node 7"),
            85,
            2,
            "the Ray cluster failed (NodeDiedError: node 7)",
        ),
        (
            _of("mine", "Own", _of("ray.exceptions", "RaySystemError"))(),
            85,
            2,
            "the Ray cluster failed (Own: Own)",
        ),
    ],
)
def test_ends(problem: BaseException, driving: int, else_: int, line: str) -> None:
    """One line; 2 where the user can correct it, 75 where another driver works, 85 where a run is interrupted."""
    assert ending_of(problem, drives=True) == Ending(driving, line)
    assert ending_of(problem, drives=False) == Ending(else_, line)


def test_a_task_of_ray() -> None:
    """What a task has raised counts, not that Ray hands it on: a full disk there is one, a fault there a fault."""
    task = _of("ray.exceptions", "RayTaskError(OSError)")("traceback of many lines")
    task.cause = _system(errno.ENOSPC)  # type: ignore[attr-defined]
    assert ending_of(task, drives=True) == Ending(85, "/runs/x: No space left on device")
    task.cause = KeyError("x")  # type: ignore[attr-defined]
    assert ending_of(task, drives=True) is None


@pytest.mark.parametrize("problem", [KeyError("x"), AssertionError(), _of("ray.tune.error", "TuneError")("many lines")])
def test_a_fault_of_the_program(problem: Exception) -> None:
    """It is nobody's mistake and has no ending of its own."""
    assert ending_of(problem, drives=True) is None


def test_one_line() -> None:
    """Line breaks and control characters are gone, a long text is cut, an empty one is the type's name."""
    assert one_line(ValueError("a\n  b\x1b[0m")) == "a b\\x1b[0m"
    assert one_line(ValueError("x" * 500)) == "x" * 400 + " ..."
    assert one_line(ValueError()) == "ValueError"
