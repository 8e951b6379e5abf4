"""Hyper-parameters as fields: what a value, a list and a table of an experiment file do to them."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.hyper import (
    Choice,
    Parameter,
    Range,
    build,
    convert,
    fields_of,
    hyper,
    read_space,
    to_flat,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = hyper(0.01, Range(1e-4, 1e-1, log=True))
    steps: int = hyper(3)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    weight: float = hyper(1.0, Range(0.5, 2.0), neutral=0.0)
    mode: Literal["train", "frozen"] = hyper("train", Choice(("train", "frozen")))
    sizes: tuple[int, ...] = hyper((1, 2))
    flip: bool = hyper(True)
    depth: int | None = hyper(None)


@dataclass(frozen=True, kw_only=True)
class Needy:
    name: str


DEFAULTS = {
    "inner/lr": 0.01,
    "inner/steps": 3,
    "weight": 1.0,
    "mode": "train",
    "sizes": (1, 2),
    "flip": True,
    "depth": None,
}


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True), (-1, 1, True)])
def test_impossible_range(low: float, high: float, log: bool) -> None:
    """A range needs low < high, and low > 0 where it is logarithmic."""
    with pytest.raises(ValueError, match="low"):
        Range(low, high, log)


def test_empty_choice() -> None:
    """A choice needs at least one option."""
    with pytest.raises(ValueError, match="empty"):
        Choice(())


@pytest.mark.parametrize(
    ("search", "value", "nearest"),
    [
        (Range(1, 3), 0, 1),
        (Range(1, 3), 2, 2),
        (Range(1, 3), 9, 3),
        (Choice((1, 10, 30)), 10, 10),
        (Choice((1, 10, 30)), 18, 10),
        (Choice((1, 10, 30)), 100, 30),
        (Choice(("a", "b")), "c", "a"),
        (Choice((5, "b")), 7, 5),
    ],
)
def test_nearest(search: Range | Choice, value: Any, nearest: Any) -> None:
    """A value outside a search moves to the nearest end or option; words move to the first option."""
    assert search.nearest(value) == nearest


@pytest.mark.parametrize(
    ("neutral", "search", "point"),
    [(None, Range(1, 3), 2), (0, Range(1, 3), 1), (0, None, 2), (0, Choice((0, 2)), 0)],
)
def test_neutral_point(neutral: Any, search: Any, point: Any) -> None:
    """The neutral point is the value nearest to ``neutral``; without it or a search it is the default."""
    assert Parameter(2, search, neutral).neutral_point == point


def test_first_moves_into_the_range() -> None:
    """A default outside of an overriding range is moved to the range's end."""
    space = read_space(Outer, {"weight": {"low": 1.5, "high": 2.0}}, "train")
    assert space["weight"].first == 1.5


def test_absent_keys_keep_the_field() -> None:
    """Without overrides a space holds the defaults, ranges and off-values that stand on the fields."""
    space = read_space(Outer, {}, "train")
    assert {key: p.value for key, p in space.items()} == DEFAULTS
    searched = {key: p.search for key, p in space.items() if p.search}
    assert searched == {
        "inner/lr": Range(1e-4, 1e-1, log=True),
        "weight": Range(0.5, 2.0),
        "mode": Choice(("train", "frozen")),
    }
    assert space["weight"].neutral == 0.0


@pytest.mark.parametrize(
    ("table", "key", "value", "search"),
    [
        ({"inner": {"lr": 1}}, "inner/lr", 1.0, None),
        ({"inner": {"lr": [1, 2]}}, "inner/lr", 0.01, Choice((1.0, 2.0))),
        ({"inner": {"steps": {"low": 1, "high": 9}}}, "inner/steps", 3, Range(1, 9)),
        (
            {"inner": {"lr": {"low": 1, "high": 2, "log": True}}},
            "inner/lr",
            0.01,
            Range(1.0, 2.0, log=True),
        ),
        ({"mode": "frozen"}, "mode", "frozen", None),
        ({"sizes": [4, 5]}, "sizes", (4, 5), None),
        ({"sizes": []}, "sizes", (), None),
        ({"sizes": [[4], [5, 6]]}, "sizes", (1, 2), Choice(((4,), (5, 6)))),
        ({"depth": 2}, "depth", 2, None),
        ({"depth": {"low": 1, "high": 4}}, "depth", None, Range(1, 4)),
    ],
)
def test_three_rules(table: dict[str, Any], key: str, value: Any, search: Any) -> None:
    """A value pins, a list chooses, a table with low and high searches."""
    parameter = read_space(Outer, table, "train")[key]
    assert (parameter.value, parameter.search) == (value, search)
    assert type(parameter.value) is type(value)


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ({"wieght": 1}, "train.wieght", ["'wieght'", "'weight'", "depth, flip, inner, mode, sizes, weight"]),
        ({"inner": {"step": 1}}, "train.inner.step", ["[train.inner]", "'steps'", "lr, steps"]),
        ({"inner": {"lr": "fast"}}, "train.inner.lr", ["'fast'", "a number"]),
        ({"weight": True}, "train.weight", ["True", "a number"]),
        ({"flip": 1}, "train.flip", ["true or false"]),
        ({"inner": {"steps": 1.5}}, "train.inner.steps", ["1.5", "whole number"]),
        ({"mode": "frosen"}, "train.mode", ["'frosen'", "'frozen'", "train"]),
        ({"sizes": 3}, "train.sizes", ["3"]),
        ({"sizes": ["a"]}, "train.sizes", ["'a'", "whole number"]),
        ({"weight": []}, "train.weight", ["empty"]),
        ({"weight": [1, "x"]}, "train.weight", ["'x'"]),
        ({"weight": {"low": 1}}, "train.weight", ["low and high"]),
        ({"weight": {"low": 1, "hihg": 2}}, "train.weight", ["'hihg'", "high"]),
        ({"weight": {"low": 2, "high": 1}}, "train.weight", ["2", "1"]),
        ({"weight": {"low": 0, "high": 1, "log": True}}, "train.weight", ["low > 0"]),
        ({"weight": {"low": 0, "high": 1, "log": "yes"}}, "train.weight.log", ["true or false"]),
        ({"weight": {"low": "a", "high": 1}}, "train.weight.low", ["'a'"]),
        ({"mode": {"low": 0, "high": 1}}, "train.mode", ["is not a number"]),
        ({"flip": {"low": 0, "high": 1}}, "train.flip", ["is not a number"]),
    ],
)
def test_mistakes(table: dict[str, Any], key: str, words: list[str]) -> None:
    """A mistake in a table is one line with the wrong key, and says what would be right."""
    with pytest.raises(UserError) as caught:
        read_space(Outer, table, "train")
    message = str(caught.value)
    assert caught.value.key == key
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_group_that_is_no_table() -> None:
    """A value where a table of keys belongs is told apart from an unknown key."""
    with pytest.raises(UserError, match=r"train\.inner.*table"):
        read_space(Outer, {"inner": 3}, "train")


def test_missing_value() -> None:
    """A field without default needs a value."""
    with pytest.raises(UserError, match=r"data\.name is missing"):
        read_space(Needy, {}, "data")


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, 1.0),
        (2.0, int, 2),
        (None, int | None, None),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        ("frozen", Literal["train", "frozen"], "frozen"),
    ],
)
def test_convert(value: Any, hint: Any, expected: Any) -> None:
    """Whole numbers pass as float and the other way round, lists as tuples."""
    found = convert(value, hint, "here")
    assert found == expected
    assert type(found) is type(expected)


def test_fields_of_keeps_the_order() -> None:
    """Fields come in the order of their definition, nested ones under ``outer/inner``."""
    assert list(fields_of(Outer)) == list(DEFAULTS)


def test_flat_values_survive_json() -> None:
    """A config built from the JSON of its flat values equals itself."""
    config = Outer(inner=Inner(lr=0.5, steps=7), mode="frozen", sizes=(9,), depth=4)
    assert build(Outer, json.loads(json.dumps(to_flat(config)))) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [({"inner/rl": 1}, ["inner/rl", "inner/lr"]), ({"inner/lr": "x"}, ["config.inner.lr", "'x'"])],
)
def test_build_is_strict(values: dict[str, Any], words: list[str]) -> None:
    """Building a config refuses unknown keys and wrong types."""
    with pytest.raises(UserError) as caught:
        build(Outer, values)
    assert [word for word in words if word not in str(caught.value)] == []
