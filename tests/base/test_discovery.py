"""Discovery: a file is a method, a data set, a family; nothing else is."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cotuning_tune import data, methods, models
from cotuning_tune.base.discovery import find_class, first_line, module_names
from cotuning_tune.base.errors import UserError

FILES = {
    "__init__": "",
    "one": '"""The first one.\n\nMore."""\n\nclass One(Exception):\n    pass\n',
    "two": '"""Imports a class."""\n\nfrom found_here.one import One\n\nclass Two(One):\n    pass\n',
    "none": '"""Only imports."""\n\nfrom found_here.one import One\n',
    "many": "class A(Exception):\n    pass\n\nclass B(Exception):\n    pass\n",
    "broken": "import no_such_module_anywhere\n",
    "_private": "class P(Exception):\n    pass\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the files above."""
    folder = tmp_path / "found_here"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("found_here")]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("found_here")


def test_names(package: ModuleType) -> None:
    """Every file without a leading underscore counts, in order; none of them is imported."""
    assert module_names(package) == ["broken", "many", "none", "one", "two"]
    assert [name for name in sys.modules if name.startswith("found_here.")] == []


@pytest.mark.parametrize(("module", "name"), [("one", "One"), ("two", "Two")])
def test_find(package: ModuleType, module: str, name: str) -> None:
    """The class that the file defines itself is found, not one that it imports."""
    assert find_class(package, module, Exception, "thing").__name__ == name


def test_unknown(package: ModuleType) -> None:
    """An unknown name is a user's error with the nearest and all known names."""
    with pytest.raises(UserError) as caught:
        find_class(package, "tow", Exception, "thing")
    assert str(caught.value).startswith("no thing 'tow', did you mean 'two'?")
    assert "broken, many, none, one, two" in str(caught.value)


@pytest.mark.parametrize("module", ["none", "many"])
def test_no_one_class(package: ModuleType, module: str) -> None:
    """A file with no class of its own, or with several, is the author's error and names the file."""
    with pytest.raises(TypeError, match=rf"{module}\.py must define one subclass of Exception"):
        find_class(package, module, Exception, "thing")


def test_a_private_file_is_not_found(package: ModuleType) -> None:
    """A file with a leading underscore cannot be asked for."""
    with pytest.raises(UserError, match="_private"):
        find_class(package, "_private", Exception, "thing")


def test_a_broken_file_says_why(package: ModuleType) -> None:
    """A file whose import fails shows its own error, not that there is no such file."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        find_class(package, "broken", Exception, "thing")


@pytest.mark.parametrize(("module", "line"), [("one", "The first one."), ("two", "Imports a class.")])
def test_first_line(package: ModuleType, module: str, line: str) -> None:
    """The first line of a file's docstring is read without importing it."""
    assert first_line(package, module) == line
    assert f"found_here.{module}" not in sys.modules


@pytest.mark.parametrize(
    ("found", "some"),
    [
        (methods.names(), {"bss", "co_tuning", "delta", "fine_tune", "l2_sp", "lwf"}),
        (data.names(), {"fashion_mnist", "image_folder", "synthetic"}),
        (models.families(), {"efficientnet_lite", "timm_models", "tiny_cnn", "torchvision_models"}),
    ],
    ids=["methods", "data", "models"],
)
def test_what_there_is(found: list[str], some: set[str]) -> None:
    """The package's own files are found, and nothing with an underscore."""
    assert some <= set(found)
    assert [name for name in found if name.startswith("_")] == []


@pytest.mark.parametrize("package", [methods, data, models], ids=lambda package: package.__name__)
def test_every_file_has_a_first_line(package: ModuleType) -> None:
    """Each file tells in its first line what it is: the list on the command line shows it."""
    assert [name for name in module_names(package) if len(first_line(package, name)) < 10] == []
