"""An experiment in keyword arguments is the one of a file."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import cotuning_tune as ct
from cotuning_tune.experiment import read_experiment

ROOT = Path(__file__).parents[2]


def experiment(**other: object) -> ct.Experiment:
    """A small one."""
    given: dict[str, object] = {"tasks": ["synthetic"], "methods": ["fine_tune"], "backbone": "tiny_cnn"} | other
    return ct.Experiment(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.toml")), ids=lambda path: path.stem)
def test_every_file_in_keywords(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of a file, given as keyword arguments, make the same experiment."""
    monkeypatch.chdir(path.parent)
    tables = tomllib.loads(path.read_text())
    given = tables.pop("experiment")
    for key in ("methods", "backbones"):
        if key in tables:
            given[key] = {name: tables[key].get(name, {}) for name in given[key]}
            assert tables[key].keys() <= given[key].keys()
            del tables[key]
    name = given.pop("name", path.stem)
    made = ct.Experiment(name=name, **given, **tables).checked
    asked = read_experiment(path)
    assert [study.name for study in made.studies] == [study.name for study in asked.studies]
    assert made.space_text() == asked.space_text()
    study = asked.studies[-1]
    assert made.spec(study, {}, 0) == asked.spec(study, {}, 0)


def test_written_and_read_again(tmp_path: Path) -> None:
    """``to_toml`` writes a file that ``from_file`` reads as the same."""
    lr = {"low": np.float64(1e-3), "high": 1e-1, "log": True}
    made = experiment(name="birds", methods={"bss": {"weight": [0.0, 1e-3]}}, train={"epochs": 2, "optim": {"lr": lr}})
    text = made.to_toml(tmp_path / "birds.toml")
    again = ct.Experiment.from_file(tmp_path / "birds.toml")
    assert (again.name, again.to_toml(), again.studies) == ("birds", text, ["synthetic-1.00-bss"])
    assert again.checked.space_text() == made.checked.space_text()
    assert ct.Experiment.from_toml(text, "birds").checked.config == made.checked.config


def test_relative_paths_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the keywords are written, as in a shell."""
    monkeypatch.chdir(tmp_path)
    made = experiment(tasks=["photos"], data={"photos": {"format": "image_folder", "root": Path("photos")}})
    assert made.checked.data["photos"]["root"] == str(tmp_path / "photos")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"trails": 3}, "unknown key 'trails' in \\[experiment\\]; did you mean 'trials'"),
        ({"methods": ["fine_tuning"]}, "did you mean 'fine_tune'"),
        ({"methods": {"fine_tuning": {}}}, "did you mean 'fine_tune'"),
        ({"train": {"epochs": None}}, "train.epochs is None: leave it out"),
        (
            {"train": {"optim": {"lr": object()}}},
            "train.optim.lr = <object.*> must be a text, a number",
        ),
        ({"trials": 0}, "experiment.trials = 0"),
        ({"name": "a/b"}, "the run's name"),
    ],
)
def test_mistakes(given: dict[str, object], told: str) -> None:
    """One line each, as of a file."""
    with pytest.raises(ct.UserError, match=told) as caught:
        experiment(**given)
    assert "\n" not in str(caught.value)


def test_nothing_is_imported_for_the_package_alone() -> None:
    """Its names are there all the same."""
    code = "import sys, cotuning_tune as c; print(dir(c)); print([m for m in sys.modules if m.startswith('cotuning')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names, modules = told.splitlines()
    assert "'open_run'" in names
    assert modules == "['cotuning_tune']"
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        _ = ct.runn  # type: ignore[attr-defined]
