"""Experiment files of random values: each is an experiment, or refused in one line."""

import copy
from datetime import date
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cotuning_tune import data, methods
from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import TABLES, ExperimentConfig, Resources, parse
from cotuning_tune.hyper import fields_of
from cotuning_tune.training import TrainConfig

VALID = {
    "experiment": {
        "tasks": ["synthetic", "mine"],
        "methods": ["fine_tune", "bss", "direct", "bss+lwf"],
        "backbone": "tiny_cnn",
    },
    "data": {"mine": {"format": "synthetic"}},
    "methods": {"direct": {"method": "co_tuning", "approach": "direct"}},
}
OWNERS: list[tuple[str, type]] = [
    ("experiment", ExperimentConfig),
    ("resources", Resources),
    ("task", data.TaskConfig),
    ("train", TrainConfig),
    *((f"methods/{name}", methods.method(name).Config) for name in methods.names()),
    *(("data/mine", data.data_set(name).Config) for name in data.names()),
]
PATHS = sorted({(*owner.split("/"), *key.split("/")) for owner, config in OWNERS for key in fields_of(config)})
WORDS = sorted(
    {
        *(part for path in PATHS for part in path),
        *data.names(),
        "low",
        "high",
        "log",
        "method",
        "bss+l2_sp",
        "a/b",
        "~",
        "~\0",
        "",
    }
)
names = st.sampled_from(WORDS) | st.text(max_size=3)
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 1e-3, 10**400, 2**62, float("inf")])
scalars = numbers | numbers | st.booleans() | names | st.just(date(2020, 1, 1))
ranges = st.fixed_dictionaries({"low": numbers, "high": numbers}, optional={"log": st.booleans()})
values = st.recursive(
    scalars | ranges,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
places = st.sampled_from(PATHS) | st.lists(names, min_size=1, max_size=3)


def put(tables: dict[str, Any], path: tuple[str, ...] | list[str], value: Any) -> dict[str, Any]:
    """The tables with a value at a path; what is no table on the way there becomes one."""
    table = tables = copy.deepcopy(tables)
    for name in path[:-1]:
        if not isinstance(table.get(name), dict):
            table[name] = {}
        table = table[name]
    table[path[-1]] = value
    return tables


changed = st.lists(st.tuples(places, values), min_size=1, max_size=3)
few = settings(max_examples=250, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def lines(text: str) -> list[str]:
    """What is said of a text: of an experiment its name, else why it is refused."""
    try:
        experiment = parse(text, "any")
    except UserError as problem:
        return str(problem).splitlines()
    assert experiment.space_text()
    return [experiment.name]


@few
@given(changed)
@example([(("train", "optim", "lr"), 10**400)])
@example([(("resources", "gpu_per_trial"), float("inf"))])
@example([(("experiment", "weights"), "~no.such.user/weights.pth")])
@example([(("experiment", "source_val"), "~no.such.user")])
@example([(("a\nb",), 1)])
@example([(("train", "c\x85d"), 1)])
def test_an_experiment_or_one_line(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    """Whatever stands in a valid file's place or beside it, the file is an experiment or refused in one line."""
    tables: dict[str, Any] = VALID
    for path, value in changes:
        tables = put(tables, path, value)
    assert len(lines(tomlkit.dumps(tables))) == 1


@few
@given(st.dictionaries(st.sampled_from(TABLES) | names, values, max_size=4))
def test_any_tables(tables: dict[str, Any]) -> None:
    """Any tables at all are an experiment or refused in one line."""
    assert len(lines(tomlkit.dumps(tables))) == 1


@few
@given(st.text(max_size=40) | st.lists(st.sampled_from(["[", "]", "=", '"', "a", ".", "\n", "{", "1"])).map("".join))
@example("trials = " + "1" * 5000)
@example("a = " + "[" * 5000)
def test_any_text(text: str) -> None:
    """Any text at all is an experiment or refused in one line."""
    assert len(lines(text)) == 1


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -2.0, 1.5, 2.0])
def test_a_share_of_no_gpu(share: float) -> None:
    """A share of a GPU that is no number, endless, negative or above 1, which no training would use, is refused."""
    with pytest.raises(UserError, match="a share from 0 to 1"):
        parse(tomlkit.dumps(put(VALID, ("resources", "gpu_per_trial"), share)), "any")
