"""Passwords, tokens and keys: carried in a type that does not show them, and masked where they stand in a text.

>>> Secret("postgresql://me:pw@host/db")
***
>>> masked("no answer from postgresql://me:pw@host/db?sslpassword=x")
'no answer from postgresql://me:***@host/db?sslpassword=***'
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 4  # a shorter piece of a password stands in too many words
URL = re.compile(r"(?P<user>\b[A-Za-z][\w+.-]*://[^\s:/@]*):[^\s]*@")
PARAMETER = re.compile(
    r"(?P<name>[?&;]\w*(?:password|passwd|pwd|token|secret|key)=)(?P<value>[^&\s'\"]+)", re.IGNORECASE
)
SETTING = re.compile(r"password|passwd|pwd|token|secret|key|credential|auth", re.IGNORECASE)


def masked(text: str) -> str:
    """The text without the passwords of the URLs in it, as ``://user:PASSWORD@`` or ``?password=PASSWORD``."""
    return PARAMETER.sub(rf"\g<name>{HIDDEN}", URL.sub(rf"\g<user>:{HIDDEN}@", text)) if "://" in text else text


def masked_settings(text: str, settings: Iterable[str]) -> str:
    """The text without the values of those ``NAME=VALUE`` settings whose name speaks of a secret."""
    for setting in settings:
        name, _, value = setting.partition("=")
        if value and SETTING.search(name):
            text = text.replace(value, HIDDEN)
    return text


class Secret:
    """A text that is shown as ``***``: by print, in messages, in logs. ``reveal`` gives it to whoever needs it.

    It cannot be pickled nor written as JSON: what stores it has to ask for it. '' is false, and shown as ''.
    """

    __slots__ = ("_text",)

    def __init__(self, text: "str | Secret" = "") -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def cover(self, text: str) -> str:
        """The text without this secret: whole, as the password of a URL, or the pieces into which a URL may fall."""
        if self._text:
            text = text.replace(self._text, masked(self._text) if "://" in self._text else HIDDEN)
        text = masked(text)
        for piece in sorted(self._pieces(), key=len, reverse=True):
            text = text.replace(piece, HIDDEN)
        return text

    def _pieces(self) -> set[str]:
        """What a reader of URLs may take for a part: a password with ``@``, ``/`` or ``:`` in it is torn there."""
        if "://" not in self._text:
            return set()
        given = [found["value"] for found in PARAMETER.finditer(self._text)]
        credentials, at, _ = self._text.partition("://")[2].rpartition("@")
        password = credentials.partition(":")[2] if at else ""
        found = {password, unquote(password), *re.split("[@/:?#]", password), *given, *map(unquote, given)}
        return {piece for piece in found if len(piece) >= SHORTEST}

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return HIDDEN if self._text else ""

    def __format__(self, how: str) -> str:
        return format(repr(self), how)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _: object) -> "Secret":
        return self

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")
