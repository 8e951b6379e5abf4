"""Errors that speak to the user: one line that says what is wrong and what is possible."""

import difflib
from collections.abc import Iterable, Sequence

from cotuning_tune.base.former_names import KEYS
from cotuning_tune.base.secrets import masked


def printable(text: str) -> str:
    """A text in one line: what cannot be printed, as a line's end in a file's name, is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UserError(Exception):
    """A mistake in what the user gave; the command line prints its one line and exits with 2.

    ``key``: the dotted key of the experiment file that is wrong, where there is one. What cannot be printed, as
    a line's end in a quoted name, is shown escaped; the password of a URL is shown as ``***``.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(printable(masked(message)))
        self.key = key


class UnknownKeyError(UserError):
    """A key that its ``table`` does not know, or with an empty ``table`` a table that there is not.

    Names the cure: the present name of a former one, other tables that know the key, or the nearest name.
    """

    def __init__(self, name: str, table: str, known: Iterable[str], homes: Sequence[str] = ()) -> None:
        self.name, self.table, self.known = name, table, sorted(known)
        what = f"unknown key '{name}' in [{table}]" if table else f"unknown table '{name}'"
        super().__init__(what + self._cure(homes), f"{table}.{name}" if table else name)

    def _cure(self, homes: Sequence[str]) -> str:
        if (now := KEYS.get(self.name)) in self.known:
            return f": it is called '{now}' now"
        near = [f"'{name}'" for name in _nearest(self.name, self.known, 0.8 if homes else 0.6)]
        hint = f"; did you mean {' or '.join([*near, *homes[:3]])}?" if near or homes else ";"
        return hint if homes else f"{hint} there are: {', '.join(self.known) or 'none'}"

    def with_homes(self, homes: Sequence[str]) -> "UnknownKeyError":
        """The same error, said by who knows where a key of this name belongs (as ``[train.optim] lr``)."""
        return UnknownKeyError(self.name, self.table, self.known, homes)


class Held(UserError):  # noqa: N818 - what happened, not a mistake
    """Another driver works on the run: nothing has to be corrected, and it may be tried again; exit code 75."""


class TrainingFailed(Exception):  # noqa: N818 - what happened, not a fault of the program
    """The method's own failure (NaN, out of memory, a bug): the trial ends FAIL with this reason."""


class Fenced(Exception):  # noqa: N818 - what happened, not a fault of the program
    """A newer driver owns the run; this worker must not write any more."""


def first_line(problem: BaseException) -> str:
    """The first line of an exception's message without passwords, its type's name where it has none."""
    return masked((str(problem).strip().splitlines() or [type(problem).__name__])[0])


def first_three(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


class Unfinished(SystemExit):
    """The driver stops here, nothing is lost: exit code 85, with one line that says why and what resumes.

    No ``Exception``: it must leave Tune's loop, which catches those.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(85)
        self.reason = reason


def _nearest(name: str, names: list[str], cutoff: float = 0.6) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=cutoff)


def unknown(kind: str, name: str, known: Iterable[str], key: str = "") -> UserError:
    """The error for a name that does not exist: names the nearest one and all known ones."""
    names = sorted(known)
    near = _nearest(name, names)
    hint = f", did you mean '{near[0]}'?" if near else ";"
    return UserError(f"no {kind} '{name}'{hint} there are: {', '.join(names) or 'none'}", key)
