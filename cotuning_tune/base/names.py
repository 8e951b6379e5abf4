"""Names that users choose: one becomes a folder, an identity in the database and a word on other machines' shells.

All of them are checked here, at every door that they come in by.
"""

import re

from cotuning_tune.base.errors import UserError

MOST = 100  # characters; the folders of a run lie below it, with names that are made of this one
POSSIBLE = f"letters (a-z, A-Z), digits, '.', '_' and '-', no '.' or '-' first, at most {MOST} characters"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
JOINT = "+"  # between methods that are combined
REPEAT = re.compile(r"-repeat[0-9]+$")  # what a further search adds to its run's name


def check_name(name: object, what: str, hint: str = "", key: str = "") -> str:
    """The name, where it is one. Raises UserError that says what is wrong, what is possible, and the ``hint``.

    >>> check_name("birds-2", "the run's name")
    'birds-2'
    """
    if isinstance(name, str) and NAME.fullmatch(name) and len(REPEAT.sub("", name)) <= MOST:
        return name
    more = f" ({hint})" if hint else ""
    raise UserError(f"{what} '{name}' {_wrong(str(name))}: {POSSIBLE} are possible{more}", key)


def _wrong(name: str) -> str:
    if not name:
        return "is empty"
    if bad := re.search(r"[^A-Za-z0-9._-]", name):
        return f"must not hold {bad[0]!a}"
    if name[0] in ".-":
        return f"must not begin with '{name[0]}'"
    return f"has {len(name)} characters"


def check_setting(setting: str, where: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``, a variable that every shell takes. Raises UserError with ``where`` it stands.

    >>> check_setting("HOME=/home/me", "the first setting")
    ('HOME', '/home/me')
    """
    name, equals, value = setting.partition("=")
    if not (equals and VARIABLE.fullmatch(name)):
        possible = "a name of letters (a-z, A-Z), digits and '_', no digit first"
        raise UserError(f"{where} is not NAME=VALUE with {possible}")
    return name, value
