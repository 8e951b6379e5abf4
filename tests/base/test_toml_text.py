"""TOML as text: lines of keys, and written values that tomllib reads back."""

import tomllib
from typing import Any

import pytest

from cotuning_tune.base.toml_text import format_tables, format_value, line_of, set_key

TEXT = """\
# lr = 1
[experiment]
tasks = [
    "cub200",
]
name = "rates = 3"

[train]
epochs = 3
optim.momentum = 0.9

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
        ("train.optim.momentum", 10),
        ("train.optim", 12),
        ("train.optim.lr", 13),
        ("train.optim.lr.low", 13),
        ("methods.bss", 16),
        ("methods.bss.k", 16),
        ("methods.co_tuning", 18),
        ("methods.co_tuning.weight", 19),
        ("experiment.rates", None),
        ("train.lr", None),
        ("epochs", None),
    ],
)
def test_line_of(path: str, line: int | None) -> None:
    """A key's line is found in tables, dotted keys and inline tables; comments and strings do not count."""
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
    with pytest.raises(TypeError, match="no TOML form"):
        format_value(value)


def test_tables_come_back() -> None:
    """Tables with dotted names are read back nested; keys with a slash are quoted."""
    text = format_tables({"train": {"optim/lr": 0.1, "epochs": 3}, "methods.bss": {"k": 1}, "empty": {}})
    assert tomllib.loads(text) == {
        "train": {"optim/lr": 0.1, "epochs": 3},
        "methods": {"bss": {"k": 1}},
        "empty": {},
    }


@pytest.mark.parametrize(("key", "value"), [("name", 'a "b"'), ("source_val", "/a b/c"), ("trials", 3)])
def test_a_key_is_set(key: str, value: Any) -> None:
    """A key of a table gets a new value in its line, or a line of its own; all else stays as it is."""
    text = TEXT.partition("[train.optim]")[0]
    before, after = tomllib.loads(text), tomllib.loads(set_key(text, "experiment", key, value))
    assert after == before | {"experiment": before["experiment"] | {key: value}}
