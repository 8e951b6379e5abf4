"""What the exception that ends a command means: its exit code and its one line; None of a fault of the program."""

import errno
from dataclasses import dataclass

from cotuning_tune.base.errors import Held, TrainingFailed, Unfinished, UserError
from cotuning_tune.base.secrets import masked

FAILED, MISTAKE, FAULT, HELD, UNFINISHED = 1, 2, 70, 75, 85  # FAULT: of the program, with a traceback
FULL = (errno.ENOSPC, errno.EDQUOT)
WRONG_PLACE = (  # what is named is not what it should be: the user can correct it
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ETXTBSY,
)
OTHERS = {  # by the package that the exception's type comes from; none is imported for that
    "ray": "the Ray cluster",
    "optuna": "the storage of the studies",
    "sqlalchemy": "the storage of the studies",
    "psycopg": "the storage of the studies",
    "psycopg2": "the storage of the studies",
    "pymysql": "the storage of the studies",
    "sqlite3": "the storage of the studies",
    "botocore": "the object store",
}
OF_A_TASK = ("RayTaskError", "TuneError")  # Ray hands on what the program has raised there


@dataclass(frozen=True)
class Ending:
    """How a command ends; the line does not say what to do next."""

    code: int
    line: str


def ending_of(problem: BaseException, *, drives: bool) -> Ending | None:
    """The ending by an exception, None where it is a fault of the program.

    ``drives``: the command works on a run, which a failure of what it works with interrupts, no more.
    """
    match problem:
        case Unfinished():
            return Ending(UNFINISHED, problem.reason)
        case KeyboardInterrupt():
            return Ending(UNFINISHED, f"interrupted by {problem}" if str(problem) else "interrupted")
        case Held():
            return Ending(HELD, str(problem))
        case UserError():
            return Ending(MISTAKE, str(problem))
        case TrainingFailed():
            return Ending(FAILED, f"the training failed: {problem}")
        case OSError():
            return _of_system(problem, drives)
        case MemoryError():
            return Ending(FAILED, "this machine has no memory left")
    return _of_others(problem, drives)


def _of_system(problem: OSError, drives: bool) -> Ending:
    where = [str(name) for name in (problem.filename, problem.filename2) if name is not None]
    line = f"{' -> '.join(where)}: {problem.strerror}" if where else one_line(problem)
    if problem.errno in WRONG_PLACE:
        return Ending(MISTAKE, line)
    if problem.errno is None:
        return Ending(FAILED, line)
    if drives:
        return Ending(UNFINISHED, line)
    return Ending(MISTAKE if problem.errno in FULL else FAILED, line)


def _of_others(problem: BaseException, drives: bool) -> Ending | None:
    kind = next((kind for kind in type(problem).__mro__ if kind.__module__.partition(".")[0] in OTHERS), None)
    if kind is None:
        return None
    if any(kind.__name__.startswith(OF_A_TASK) for kind in type(problem).__mro__):
        cause = getattr(problem, "cause", None) or problem.__cause__
        return ending_of(cause, drives=drives) if isinstance(cause, Exception) else None
    what = OTHERS[kind.__module__.partition(".")[0]]
    line = f"{what} failed ({type(problem).__name__}: {one_line(problem)})"
    return Ending(UNFINISHED if drives else MISTAKE, line)


def one_line(problem: BaseException, most: int = 400) -> str:
    """An exception's message in one line, without a password in a URL; its type's name where it has none."""
    text = masked(" ".join(str(problem).split()))
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if 0 < len(text) <= most else text[:most].rstrip() + " ..." if text else type(problem).__name__
