"""Optuna's private parts: all in one file, and still there."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from cotuning_tune.search import stored_trials

SEARCH = Path(stored_trials.__file__).parent
KIND = CategoricalDistribution(("a", "b"))
Use = Callable[[optuna.Study, FrozenTrial], Any]


def _asked() -> tuple[optuna.Study, FrozenTrial]:
    study = optuna.create_study()
    study.enqueue_trial({"kind": "b"})
    return study, study.get_trials()[study.ask().number]


@pytest.mark.parametrize(
    ("use", "found", "expected"),
    [
        (lambda s, t: stored_trials.set_attr(s, t, "lost", 3), lambda t: t.user_attrs, {"lost": 3}),
        (lambda s, t: stored_trials.set_param(s, t, "kind", "b", KIND), lambda t: t.params, {"kind": "b"}),
        (lambda s, t: stored_trials.set_report(s, t, 2, 50.0), lambda t: t.intermediate_values, {2: 50.0}),
        (lambda s, t: None, stored_trials.queued_params, {"kind": "b"}),
    ],
    ids=["set_attr", "set_param", "set_report", "queued_params"],
)
def test_optuna_still_has_it(use: Use, found: Callable[[FrozenTrial], Any], expected: Any) -> None:
    """Every private part does what the search needs of it; a version that has moved one is named."""
    study, trial = _asked()
    try:
        use(study, trial)
        told = found(study.get_trials()[0])
    except (AttributeError, TypeError) as problem:
        told = problem
    moved = f"Optuna {optuna.__version__} has moved a private part: mend {stored_trials.__file__} (found: {told!r})"
    assert told == expected, moved


def private_uses(text: str) -> list[str]:
    """Private names of other objects, and Optuna's system attributes, that a file uses."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case (
                ast.Attribute(attr=name) | ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_])
            ):
                names = [name]
            case ast.ImportFrom(module=str(module)) if module.startswith("optuna"):
                names = [*module.split("."), *(item.name for item in node.names)]
            case ast.Import():
                names = [part for item in node.names for part in item.name.split(".")]
            case _:
                continue
        private = [n for n in names if n == "system_attrs" or (n.startswith("_") and not n.startswith("__"))]
        found += [f"line {node.lineno}: {name}" for name in private]
    return found


@pytest.mark.parametrize("path", sorted(SEARCH.glob("*.py")), ids=lambda path: path.stem)
def test_no_other_file_uses_a_private_part(path: Path) -> None:
    """Of the files that may know Optuna only one uses its private names."""
    uses = private_uses(path.read_text(encoding="utf-8"))
    assert bool(uses) == (path.name == "stored_trials.py"), uses


@pytest.mark.parametrize(
    "line",
    [
        "study._storage",
        "getattr(study, '_storage')",
        "self.optuna._storage",
        "trial.system_attrs",
        "from optuna._gp import x",
        "from optuna.samplers import _tpe",
        "import optuna.samplers._tpe",
    ],
)
def test_private_uses_are_found(line: str) -> None:
    """Every way to a private name is seen; the file's own are not meant."""
    assert len(private_uses(line)) == 1
    assert private_uses("self._own; cls._own; study.trials; study.__class__; _own()") == []
