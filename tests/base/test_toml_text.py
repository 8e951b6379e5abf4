"""TOML as text: lines of keys, keys set in every notation, and written values that tomllib reads back."""

import copy
import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cotuning_tune.base.toml_text import format_value, line_of, set_key
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
