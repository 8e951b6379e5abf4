"""TOML as text: lines of keys, keys set in every notation, and written values that tomllib reads back."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.toml_text import check_bounds, format_value, line_of, read_text, set_key, tables_of
from tests.base.notations import NAMES, VALUES, Notation, notations

TEXT = """\
# lr = 1
[experiment]
tasks = [
    "cub200",
]
name = "rates = 3"

[train]
epochs = 3
other.momentum = '''
lr = 3
'''

[train.optim]  # a comment
lr = { low = 1e-4, high = 1e-2 }

[methods]
bss = { weight = 1.0, k = 2 }

[methods."co_tuning"]
"weight" = 2.3
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("experiment", 2),
        ("experiment.tasks", 3),
        ("experiment.name", 6),
        ("train", 8),
        ("train.epochs", 9),
        ("train.other.momentum", 10),
        ("train.optim", 14),
        ("train.optim.lr", 15),
        ("train.optim.lr.low", 15),
        ("methods.bss", 18),
        ("methods.bss.k", 18),
        ("methods.co_tuning", 20),
        ("methods.co_tuning.weight", 21),
        ("experiment.rates", None),
        ("train.lr", None),
        ("epochs", None),
    ],
)
def test_line_of(path: str, line: int | None) -> None:
    """A key's line is found in every notation; comments and strings do not count."""
    assert line_of(TEXT, path.split(".")) == line


@pytest.mark.parametrize(
    "value",
    [
        0,
        -3,
        1e-4,
        0.1,
        1e300,
        float("inf"),
        True,
        False,
        "",
        "plain",
        'a "quoted" word',
        "back\\slash",
        "two\nlines",
        "tab\tand\rreturn",
        "bell\x07 and \x7f",
        "Größe",
        [],
        [1, 2.5, "x"],
        [[1], [2, 3]],
        {"low": 1e-4, "high": 0.1, "log": True},
        {"odd key": 1, 'quo"te': 2, "back\\slash": 3},
    ],
)
def test_values_come_back(value: Any) -> None:
    """What is written is what tomllib reads, type included."""
    found = tomllib.loads(f"v = {format_value(value)}")["v"]
    assert found == value
    assert type(found) is type(value)


def test_tuples_become_lists() -> None:
    """A tuple is written as a list."""
    assert tomllib.loads(f"v = {format_value((1, (2, 3)))}")["v"] == [1, [2, 3]]


@pytest.mark.parametrize("value", [None, object(), {1, 2}, [None]])
def test_no_form(value: Any) -> None:
    """What TOML has no form for is refused."""
    with pytest.raises(TypeError, match="TOML item"):
        format_value(value)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("[run]\ntrials = 4  # few\n\n[task]\n", "[run]\ntrials = 5  # few\n\n[task]\n"),
        ("[run]\nseed = 1\n\n[task]\n", "[run]\nseed = 1\ntrials = 5\n\n[task]\n"),
        ("run.trials = 4\nrun.seed = 1\n", "run.trials = 5\nrun.seed = 1\n"),
        ("run = { trials = 4, seed = 1 }", "run = { trials = 5, seed = 1 }\n"),
        ("['run']\n\"trials\" = 4\n", "['run']\n\"trials\" = 5\n"),
        ("# empty\n", "# empty\nrun = {trials = 5}\n"),
        ("[task]\nsize = 1", "run = {trials = 5}\n\n[task]\nsize = 1\n"),
    ],
)
def test_a_key_is_set_in_its_place(text: str, changed: str) -> None:
    """A key keeps its place and its line's comment; a new one comes last in its table."""
    assert set_key(text, ["run", "trials"], 5) == changed


ODD = """[[a.b.c]]
[a.b]
[a]
[a.b.d]
"""  # tomllib reads it, tomlkit does not


@settings(max_examples=250, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notations(), st.lists(NAMES, min_size=1, max_size=3), VALUES)
@example(Notation({"a": {"b": {"c": [{}], "d": {}}}}, ODD), ["a", "b", "d", "e"], 1)
def test_a_key_is_set_in_any_notation(notation: Notation, path: list[str], value: Any) -> None:
    """However tables are written, the text with a key set holds the same tables but for that key."""
    expected: Any = copy.deepcopy(notation.tables)
    table = expected
    for name in path[:-1]:
        table = table.setdefault(name, {})
        assume(isinstance(table, dict))
    table[path[-1]] = value
    assert tomllib.loads(notation.text) == notation.tables
    assert tomllib.loads(set_key(notation.text, path, value)) == expected


def _line_by_line(text: str, path: Sequence[str]) -> int | None:
    """``line_of``, by reading every beginning of the text."""
    lines, start = text.split("\n"), 1
    for end in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("\n".join(lines[:end]))
        except ValueError:
            continue
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is not None:
            return start
        start = end + 1
    return None


@settings(max_examples=250, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notations(), st.lists(NAMES, min_size=1, max_size=3))
@example(Notation({}, 'a = [\n1,\n]\nb = """\n[\n""""\n[c]\n'), ["c"])
def test_the_line_in_any_notation(notation: Notation, path: list[str]) -> None:
    """It is found by halves where reading every beginning of the text finds it."""
    assert line_of(notation.text, path) == _line_by_line(notation.text, path)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


PIECES = ["a", "b-1", '"', "'", '"""', "'''", "\\", ".", " ", "=", "\n", "#", "[", "]", "{", "}", ",", "1.5", "[[t]]\n"]


@settings(max_examples=2000, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), notations())
def test_no_short_text_is_refused(text: str, notation: Notation) -> None:
    """Whatever tomllib reads is within the bounds; what it does not read has its message, not another one."""
    for one in (text, notation.text, f"{notation.text}\n{text}", f'x = """{text}"""'):
        check_bounds(one)
        if (tables := _parsed(one)) is not None:
            assert tables_of(one) == tables


QUOTED = ["a", '"a.b"', "'a # ['", '"\\"["']


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from(QUOTED), min_size=1, max_size=70),
    st.sampled_from([".", " . "]),
    st.sampled_from(["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "x = [ {{ {} = 1 }} ] # {{"]),
    notations(),
)
def test_long_keys_are_counted(names: list[str], dot: str, form: str, before: Notation) -> None:
    """A key of more than 32 names is refused wherever a key may stand, with its line; one of 32 is not."""
    text = f"{before.text}\n{form.format(dot.join(names))}\n"
    if len(names) <= 32:
        check_bounds(text)
        return
    with pytest.raises(UserError, match=rf"a key of more than 32 names \(at line {before.text.count(chr(10)) + 2}\)"):
        tables_of(text)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(["[", "{a=", "[1,", "[\n", "[ # ]]\n", '["]]",']), min_size=1, max_size=70))
def test_depth_is_counted(opened: list[str]) -> None:
    """More than 32 arrays and inline tables in each other are refused; those in strings and comments do not count."""
    closed = "".join("}" if piece.startswith("{") else "]" for piece in reversed(opened))
    text = f"v = {''.join(opened)}1{closed}\n"
    if len(opened) <= 32:
        check_bounds(text)
    else:
        with pytest.raises(UserError, match="more than 32 arrays or tables in each other"):
            tables_of(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (".".join("a" * 40_000) + " = 1", r"a key of more than 32 names \(at line 1\)"),
        ("[x]\n[" + ".".join("a" * 40_000) + "]", r"a key of more than 32 names \(at line 2\)"),
        ("x = 1\n" + "k" * 5000 + " = 1", r"a key of more than 4096 characters \(at line 2\)"),
        (f'["{"k" * 5000}"]', "a key of more than 4096 characters"),
        ("v = " + "[" * 100_000, "more than 32 arrays"),
        ("v = " + "{a=" * 100_000, "more than 32 arrays"),
        ("#" * (1 << 20) + "#", "the text is longer than 1 MiB"),
        ('v = "' + '\\"' * 400_000, "Unterminated|Illegal|Expected"),
        ('v = """' + '\\"' * 400_000, "Unterminated|Illegal|Expected"),
    ],
)
def test_what_a_parser_would_take_minutes_for(text: str, problem: str) -> None:
    """One line says what is too much, before tomllib sees it; strings without an end are read once."""
    with pytest.raises(UserError, match=problem) as caught:
        tables_of(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", ['"' + "v" * 50_000 + '"', '["' + "v" * 50_000 + '"]', "[" + "0," * 20_000 + "]"])
def test_long_values_are_none_of_long_keys(value: str) -> None:
    """A long text or list is read."""
    assert tables_of(f"v = {value}") == tomllib.loads(f"v = {value}")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """One MiB is the end, also of what has no size of its own."""
    path = tmp_path / "large.toml"
    path.write_bytes(b"#" * (1 << 20))
    assert len(read_text(path)) == 1 << 20
    path.write_bytes(b"#" * ((1 << 20) + 1))
    for one in (path, Path("/dev/zero")):
        with pytest.raises(UserError, match="is larger than 1 MiB"):
            read_text(one)
