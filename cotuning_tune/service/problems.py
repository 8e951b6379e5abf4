"""What a request may come to instead of an answer, as RFC 9457 tells it; each with what is possible instead."""

from cotuning_tune.base.errors import UserError


class Problem(UserError):  # noqa: N818 - as the standard calls it
    """A request that cannot be answered. ``status``: of HTTP; ``cure``: what is possible, '' where nothing is."""

    status = 422
    title = "The request cannot be carried out"

    def __init__(self, detail: str, cure: str = "", *, key: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(f"{detail}: {cure}" if cure else detail, key)
        self.detail, self.cure, self.file, self.line = detail, cure, file, line

    def content(self) -> dict[str, object]:
        """The body of the answer, application/problem+json; ``file``, ``line`` and ``key`` where they are known."""
        places = {"key": self.key, "file": self.file, "line": self.line}
        found: dict[str, object] = {"type": "about:blank", "title": self.title, "status": self.status}
        found |= {"detail": self.detail, "cure": self.cure}
        return found | {name: value for name, value in places.items() if value}


class Unknown(Problem):
    """Not there, or not for the eyes of who asks: the two look alike."""

    status = 404
    title = "Not found"


class NotSignedIn(Problem):
    """No token, or one that is not valid (any more)."""

    status = 401
    title = "Not signed in"


class Refused(Problem):
    """The role of who asks does not suffice for what he may see."""

    status = 403
    title = "Not allowed"


class WrongState(Problem):
    """Not possible as things are now."""

    status = 409
    title = "Not possible in this state"


class Changed(Problem):
    """Somebody else changed it since it was read (If-Match)."""

    status = 412
    title = "Changed meanwhile"


class TooLarge(Problem):
    """More than is taken in."""

    status = 413
    title = "Too large"


class TooMany(Problem):
    """Too many at a time."""

    status = 429
    title = "Too many"


class NotReady(Problem):
    """Not now; later perhaps."""

    status = 503
    title = "Not ready"
