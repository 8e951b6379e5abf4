"""Rendered files are compared with those that were read and accepted; ``cases/NAME.py`` says what is rendered."""

import importlib
import os
import pkgutil
from pathlib import Path

import pytest

from cotuning_tune.launch import backend
from tests.launch import cases

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
ACCEPT = "to accept it: ACCEPT_GOLDEN=1 python -m pytest tests/launch/test_golden.py"
NAMES = [module.name for module in pkgutil.iter_modules(cases.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_rendered_files_are_the_accepted_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the plan, and the commands, are those under ``golden/``; none is left over there."""
    monkeypatch.chdir(ROOT)
    case = importlib.import_module(f"tests.launch.cases.{name}")
    plan = backend(getattr(case, "BACKEND", name)).plan(case.REQUEST)
    rendered = {**plan.files, "commands": "\n".join(" ".join(command) for command in plan.commands) + "\n"}
    folder = GOLDEN / name
    if os.environ.get("ACCEPT_GOLDEN"):
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in rendered.items():
            (folder / file).write_text(text)
    for file, text in rendered.items():
        path = folder / file
        assert path.exists(), f"{path} is new; {ACCEPT}"
        assert text == path.read_text(), f"{path} differs; {ACCEPT}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(rendered), f"{folder} holds a file too many"
