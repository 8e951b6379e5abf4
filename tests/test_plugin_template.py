"""The template package ``examples/plugin``, built and installed: everywhere a built-in is found, its things are too."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.files import read_json
from cotuning_tune.runs.folder import RunDir
from tests.test_new_method import ROOT, run_in

pytestmark = pytest.mark.proof

TEMPLATE = ROOT / "examples" / "plugin"
OFFERED = {"methods": "afn", "data": "prefix_folder", "models": "tiny_patches"}
LISTS = """
import sys
from cotuning_tune.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print("imported" if "cotuning_tune_example" in sys.modules else "not imported")
for what in ("methods", "data", "models"):
    main(["list", what])
import cotuning_tune
print(cotuning_tune.__file__)
"""
EXPERIMENT = """
[experiment]
tasks = ["birds"]
methods = ["fine_tune", "afn"]
backbones = ["tiny_cnn", "tiny_patches"]
trials = 2
seeds = [0]
[data.birds]
format = "prefix_folder"
root = "pictures"
[task]
size = 16
resize = 16
[train]
epochs = 1
batch_size = 4
"""


def install(source: Path, target: Path, *left_out: str) -> Path:
    """Build a package from a copy of its sources, which stay as they are, and install it alone into a folder."""
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build", *left_out))
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, copy]
    subprocess.run([sys.executable, *map(str, words)], check=True)
    return target


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the template is installed into."""
    return install(TEMPLATE, tmp_path_factory.mktemp("plugin") / "site")


def assert_listed(shown: list[str]) -> None:
    """Each of the three names has a line with what it is, and the package that it comes from."""
    for name in OFFERED.values():
        (line,) = [line for line in shown if line.startswith(f"{name} ")]
        assert line.endswith("[cotuning-tune-example 0.1.0]")


def test_it_is_listed(plugin: Path, tmp_path: Path) -> None:
    """The lists show its three names with their package; ``--help`` has not imported it."""
    shown = run_in(tmp_path, "-c", LISTS, path=[plugin, ROOT]).splitlines()
    assert "not imported" in shown
    assert_listed(shown)


def test_it_is_searched(plugin: Path, tmp_path: Path, write_image: Callable[..., Path]) -> None:
    """Method, data set and backbone are planned, searched by Ray, retrained and reported beside built-in ones."""
    for number in range(24):  # a third of each class to test
        split, label = "test" if number % 3 == 0 else "train", "wren" if number % 2 else "blue_jay"
        write_image(tmp_path / "pictures" / split / f"{label}_{number}.png", number)
    (tmp_path / "birds.toml").write_text(EXPERIMENT)
    command, where = ("-m", "cotuning_tune.cli"), {"path": [plugin, ROOT]}
    assert "afn" in run_in(tmp_path, *command, "plan", "birds.toml", "--no-probe", **where)
    run_in(tmp_path, *command, "run", "birds.toml", "--storage", "runs", "--num-cpus", "2", **where)
    run = RunDir(tmp_path / "runs" / "birds")
    assert read_json(run.environment)["packages"]["cotuning-tune-example"] == "0.1.0"
    report = (run.report / "report.md").read_text()
    assert [word for word in ("afn", "tiny_patches", "fine_tune", "tiny_cnn") if word not in report] == []
    assert (run.report / "index.html").exists()


def test_its_own_tests_pass(plugin: Path) -> None:
    """The tests of the template, conformance among them, pass with the installed package."""
    assert " passed" in run_in(TEMPLATE, "-m", "pytest", "-q", "-p", "no:cacheprovider", path=[plugin, ROOT])


def test_it_works_where_the_product_is_installed(plugin: Path, tmp_path: Path) -> None:
    """With the wheel's content in the place of the checkout, the lists and the template's tests are the same."""
    product = install(ROOT, tmp_path / "product", ".*", "tests", "docs", "benchmarks", "examples", "runs")
    shown = run_in(TEMPLATE, "-c", LISTS, path=[plugin, product]).splitlines()
    assert_listed(shown)
    assert Path(shown[-1]) == product / "cotuning_tune" / "__init__.py"
    assert " passed" in run_in(TEMPLATE, "-m", "pytest", "-q", "-p", "no:cacheprovider", path=[plugin, product])
