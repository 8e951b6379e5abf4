"""Errors that speak to the user: one line that says what is wrong and what is possible."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; the command line prints its one line and exits with 2.

    ``key``: the dotted key of the experiment file that is wrong, where there is one. What cannot be printed, as
    a line's end in a quoted name, is shown escaped.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
        self.key = key


class TrainingFailed(Exception):  # noqa: N818 - what happened, not a fault of the program
    """The method's own failure (NaN, out of memory, a bug): the trial ends FAIL with this reason."""


class Fenced(Exception):  # noqa: N818 - what happened, not a fault of the program
    """A newer driver owns the run; this worker must not write any more."""


def first_line(problem: BaseException) -> str:
    """The first line of an exception's message, its type's name where it has none."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


class Unfinished(SystemExit):
    """The driver stops here, nothing is lost: exit code 85, with one line that says why and what resumes.

    No ``Exception``: it must leave Tune's loop, which catches those.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(85)
        self.reason = reason


def unknown(kind: str, name: str, known: Iterable[str], key: str = "") -> UserError:
    """The error for a name that does not exist: names the nearest one and all known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f", did you mean '{near[0]}'?" if near else ";"
    return UserError(f"no {kind} '{name}'{hint} there are: {', '.join(names) or 'none'}", key)
