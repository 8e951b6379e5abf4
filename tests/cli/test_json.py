"""What ``--json`` prints is what its schema in docs/ says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cotuning_tune import cli
from tests.cli.test_cli import TINY
from tests.plan.conftest import experiment_text
from tests.report.synthetic import write_run

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def shown(call: Call) -> Callable[..., Any]:
    """``shown(command, ...)`` is what a command prints with --json, valid by its schema."""

    def run(command: str, *words: object) -> Any:
        code, out, _ = call(command, *words, "--json")
        found = json.loads("\n".join(out))
        schema = json.loads((SCHEMAS / f"{command}.schema.json").read_text())
        Draft202012Validator.check_schema(schema)
        assert [error.message for error in Draft202012Validator(schema).iter_errors(found)] == []
        assert code == 0
        return found

    return run


@pytest.mark.parametrize(
    ("what", "name"), [("methods", "bss"), ("data", "synthetic"), ("models", "tiny_cnn"), ("experiments", "demo")]
)
def test_list(shown: Callable[..., Any], what: str, name: str) -> None:
    """Every name, with what it is where that is known."""
    found = shown("list", what)
    assert found["what"] == what
    assert name in [one["name"] for one in found["found"]]


@pytest.mark.parametrize("option", ["--no-probe", "--images-per-second=100", "--concurrent-trials=1"])
def test_plan(shown: Callable[..., Any], tmp_path: Path, option: str) -> None:
    """With a probe, a throughput or none of both; the file that is written holds the same."""
    path = tmp_path / "made.toml"
    path.write_text(experiment_text())
    assert shown("plan", path, option)["totals"]["trials"] == 2


def test_status(shown: Callable[..., Any], tmp_path: Path) -> None:
    """Of a run that has not begun: each study with its budget, nothing done, and no driver."""
    words = ["run", TINY, "--storage", str(tmp_path), "--set", "experiment.trials=5"]
    run, _ = cli._running.request_of(cli.make_parser().parse_args(words)).opened()
    found = shown("status", run.path)
    assert [(one["study"], one["budget"], one["complete"], one["best_val_score"]) for one in found["studies"]] == [
        (f"synthetic-1.00-{method}", 5, 0, None) for method in ("fine_tune", "bss", "co_tuning")
    ]
    assert (found["run"], found["driver"], found["hours"], found["searches"]) == (str(run.path), None, None, 1)


def test_report_and_compare(shown: Callable[..., Any], tmp_path: Path) -> None:
    """The main table is the one that people read; of two runs there is a column each."""
    few = {"rates": (1.0,), "methods": 2, "trials": 6, "epochs": 3, "pruned": 0.0, "files": False}
    runs = [write_run(tmp_path / name, ("birds",), seed=seed, **few) for seed, name in enumerate(("one", "two"))]
    found = shown("report", runs[0].path)
    (main,) = [table for table in found["tables"] if table["name"] == "main"]
    assert main["header"][:2] == ["method", "birds 100 %"]
    assert len(main["rows"]) == 2
    assert [pick["run"] for pick in found["answer"]["take"]] == [str(runs[0].path)]
    assert (runs[0].report / "index.html").exists()
    compared = shown("compare", *(run.path for run in runs))
    assert compared["tables"][0]["header"] == ["method", "one: birds 100 %", "two: birds 100 %"]
