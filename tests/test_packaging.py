"""What is released: the wheel holds every file of the package, and the citation names the version."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import cotuning_tune

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("__pycache__", "*.pyc")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel that is built from a copy, without the network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("cotuning_tune", "launch"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    done = subprocess.run([*command, str(out), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("cotuning_tune-*-py3-none-any.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def files_of(folder: str) -> set[str]:
    """Every file below a folder of the repository, as the wheel would name it."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_holds_the_package(names: set[str]) -> None:
    """Code, assets of the report, the embedded images, the mark of types; and nothing beside it, as tests."""
    assert {name for name in names if ".dist-info/" not in name and ".data/" not in name} == files_of("cotuning_tune")


def test_the_wheel_holds_the_templates_of_launches(names: set[str]) -> None:
    """All that lies in launch/ is shared data."""
    shared = {name.split("/share/cotuning_tune/")[1] for name in names if "/share/cotuning_tune/" in name}
    assert shared == files_of("launch")


def test_the_citation_names_the_version() -> None:
    """CITATION.cff follows ``__version__``."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cotuning_tune.__version__
