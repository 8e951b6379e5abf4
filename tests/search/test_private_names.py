"""The search uses nothing of Optuna that is private: no version moves a part that it stands on."""

import ast
from pathlib import Path

import pytest

from cotuning_tune import search

SEARCH = Path(search.__file__).parent


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
def test_no_file_uses_a_private_part(path: Path) -> None:
    """The room that knows Optuna uses what is documented alone."""
    assert not private_uses(path.read_text(encoding="utf-8"))


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
