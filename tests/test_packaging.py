"""What is released: the wheel holds every file of the package, and the citation names the version."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import cotuning_tune

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("__pycache__", "*.pyc")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from a copy, without the network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("cotuning_tune", "launch", "search_spaces"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    done = subprocess.run([*command, str(out), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.glob("cotuning_tune-*-py3-none-any.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files of the wheel."""
    return set(zipfile.ZipFile(wheel).namelist())


def files_of(folder: str) -> set[str]:
    """Every file below a folder of the repository, as the wheel would name it."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_holds_the_package(names: set[str]) -> None:
    """Code, assets of the report, the embedded images, the mark of types; and nothing beside it, as tests."""
    assert {name for name in names if ".dist-info/" not in name and ".data/" not in name} == files_of("cotuning_tune")


def test_the_wheel_holds_launches_and_experiments(names: set[str]) -> None:
    """All that lies in launch/ and search_spaces/ is shared data, but for what needs a script of the checkout."""
    shared = {name.split("/share/cotuning_tune/")[1] for name in names if "/share/cotuning_tune/" in name}
    assert shared == files_of("launch") | files_of("search_spaces") - {"search_spaces/wikigold.toml"}


@pytest.mark.proof
def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, beside the packages of this one, it runs ``tiny`` in an empty folder."""
    venv.create(tmp_path / "own", with_pip=True)
    (site,) = (tmp_path / "own").glob("lib/python3.*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # this package's own .pth there is not read
    (tmp_path / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def told(program: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tmp_path / "own" / "bin" / program, *words],
            cwd=tmp_path / "empty",
            env={**environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert told("python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel).returncode == 0
    assert told("python", "-c", "import cotuning_tune as c; print(c.__file__)").stdout.startswith(str(site))
    listed = [line.split()[0] for line in told("cotuning-tune", "list", "experiments").stdout.splitlines()]
    assert {"demo", "table2", "tiny"} < set(listed)
    done = told("cotuning-tune", "run", "tiny")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "runs" / "tiny" / "report" / "index.html").is_file()
    wrong = told("cotuning-tune", "run", "tinny")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "did you mean 'tiny'" in wrong.stderr


def test_the_citation_names_the_version() -> None:
    """CITATION.cff follows ``__version__``."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cotuning_tune.__version__
