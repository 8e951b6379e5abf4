"""Paths of an object store; imported where the extra [s3] is installed."""

from collections.abc import Iterator
from typing import Self

from upath.implementations.cloud import S3Path


class ObjectPath(S3Path):
    """A path of an object store whose objects are read as a whole, in one request.

    Read piece by piece, an object that another process replaces between two pieces raises an error.
    """

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """The object's content: the old one or the new one. Raises OSError."""
        content: bytes = self.fs.cat_file(self.path, max_concurrency=1)
        return content

    def iterdir(self) -> Iterator[Self]:
        """What lies below, in one request. Raises FileNotFoundError where there is nothing."""
        for path in self.fs.ls(self.path, detail=False):
            if name := path.removeprefix(self.path).strip("/"):
                yield self / name

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The same as text. Raises OSError, UnicodeDecodeError."""
        text = self.read_bytes().decode(encoding or "utf-8", errors or "strict")
        return text.replace("\r\n", "\n") if newline is None else text
