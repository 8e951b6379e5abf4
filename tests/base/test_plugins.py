"""Plug-ins: found by the metadata of installed packages, imported when used, told where they are broken."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cotuning_tune import data, methods, models
from cotuning_tune.base import plugins
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.experiment import parse
from cotuning_tune.methods import Method
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.driver import create_run, open_studies

Install = Callable[..., None]
Call = Callable[..., tuple[int, list[str], list[str]]]

METHOD = '''"""A method from outside."""

from dataclasses import dataclass

from cotuning_tune.hyper import Range, hyper
from cotuning_tune.methods import Method


class Outside(Method):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        weight: float = hyper(0.5, Range(0.1, 1.0), neutral=0.0)
'''
FAMILY = '''"""A family from outside."""

from cotuning_tune.models.images import tiny_cnn


def names():
    return {names}


def build(name, weights):
    return tiny_cnn.build(name, weights)
'''
EXPERIMENT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "{method}"]
backbone = "{backbone}"
trials = 2
[task]
size = 16
resize = 16
[train]
epochs = 1
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install(package, version, modules, group)`` puts an installed package of these modules on the path."""
    added: list[str] = []

    def add(package: str, version: str, modules: Mapping[str, str], group: str = "methods", value: str = "") -> None:
        site, folder = tmp_path / package, tmp_path / package / package
        described = site / f"{package}-{version}.dist-info"
        for made in (folder, described):
            made.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)
        points = "\n".join(f"{name} = {value or f'{package}.{name}'}" for name in modules)
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        with (described / "entry_points.txt").open("a") as file:
            file.write(f"[cotuning_tune.{group}]\n{points}\n")
        monkeypatch.syspath_prepend(str(site))
        added.append(package)
        plugins._installed.cache_clear()
        plugins._warn.cache_clear()

    yield add
    plugins._installed.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in added]:
        del sys.modules[name]


def test_a_method_is_found_and_not_imported(install: Install) -> None:
    """Its name is listed, its class found when asked for, and nothing of its package is imported before."""
    install("acme", "1.2", {"outside": METHOD})
    assert "outside" in methods.names()
    assert "acme" not in sys.modules
    found = methods.method("outside")
    assert issubclass(found, Method)
    assert found.__module__ == "acme.outside"
    assert methods.method("bss+outside").kinds["outside"] is found  # type: ignore[attr-defined]
    assert methods.about("outside") == "A method from outside."
    assert [plugin and plugin.origin for plugin in map(methods.plugin, ("outside", "bss"))] == ["acme 1.2", None]


def test_the_command_line_shows_it(install: Install, call: Call) -> None:
    """``list`` shows origin beside what it is, ``space`` its ranges."""
    install("acme", "1.2", {"outside": METHOD})
    install("shapes", "3", {"acorn": FAMILY.format(names=["acorn/big", "acorn"])}, "backbones")
    assert f"{'outside':<24}A method from outside. [acme 1.2]" in call("list", "methods")[1]
    assert any("methods.outside.weight" in line for line in call("space", "outside")[1])
    assert call("list", "models", "acorn*")[1] == [f"{name:<24}[shapes 3]" for name in ("acorn", "acorn/big")]


BROKEN = {
    "no import": ({"outside": "import nothing_of_this_name"}, "cannot be imported: ModuleNotFoundError: No module"),
    "an exit": ({"outside": "raise SystemExit(3)"}, "cannot be imported: SystemExit: 3"),
    "no class": ({"outside": '"""Nothing."""'}, "cannot be used: "),
    "a built-in name": ({"bss": METHOD}, "is left out: its name is that of a built-in one"),
}


@pytest.mark.parametrize(("modules", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_breaks_nothing_else(install: Install, call: Call, modules: dict[str, str], said: str) -> None:
    """It stands in the list as broken, in one line with its package; what does not use it works as before."""
    before = call("list", "methods")[1]
    (name,) = modules
    install("acme", "1.2", modules)
    code, shown, _ = call("list", "methods")
    assert code == 0
    assert shown[:-1] == before
    assert shown[-1].startswith(f"{name:<24}broken: the plug-in '{name}' of acme 1.2 {said}")
    assert parse(EXPERIMENT.format(method="l2_sp", backbone="tiny_cnn"), "it").plugins == {}
    with pytest.raises(UserError, match="unknown key"):  # its hint reads the tables of every method listed
        parse(EXPERIMENT.format(method="l2_sp", backbone="tiny_cnn") + "[train.optim]\nlaerning = 1", "it")


def test_who_uses_a_broken_plugin_hears_why(install: Install) -> None:
    """An experiment that names it is refused in the line that ``list`` shows, not as an unknown name."""
    install("acme", "1.2", {"outside": "1 / 0"})
    with pytest.raises(UserError, match=r"'outside' of acme 1\.2 cannot be imported: ZeroDivisionError") as caught:
        parse(EXPERIMENT.format(method="outside", backbone="tiny_cnn"), "it")
    assert caught.value.key == "experiment.methods"


def test_a_built_in_name_stays_built_in(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    """A plug-in cannot replace what is built in; who uses that is warned once."""
    install("acme", "1.2", {"bss": METHOD})
    assert {methods.method("bss").__module__ for _ in range(3)} == {"cotuning_tune.methods.bss"}
    assert [record.message for record in caplog.records] == [
        "the plug-in 'bss' of acme 1.2 is left out: its name is that of a built-in one"
    ]


def test_two_plugins_of_one_name(install: Install) -> None:
    """Neither is taken, the line names both packages, and the others of these packages work."""
    install("acme", "1.2", {"outside": METHOD, "other": METHOD})
    install("zeta", "0.1", {"outside": METHOD})
    assert "outside" not in methods.names()
    with pytest.raises(UserError, match=r"'outside' of zeta 0\.1 has the name of one of acme 1\.2: uninstall one"):
        methods.method("outside")
    assert methods.method("other").__module__ == "acme.other"


def test_an_entry_point_of_another_name(install: Install) -> None:
    """The module must be called as the entry point, so that a method has one name in files and in messages."""
    install("acme", "1.2", {"outside": METHOD}, value="acme.elsewhere")
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"cannot be imported: ModuleNotFoundError"):
        methods.method("outside")
    install("beta", "1", {"first": METHOD, "second": METHOD}, value="beta.first")
    assert methods.method("first")
    with pytest.raises(UserError, match=r"must name a module called so: second = 'PACKAGE\.second', not beta\.first"):
        methods.method("second")


@pytest.mark.parametrize(
    ("name", "offered", "said"),
    [
        ("acorn", ["resnet18"], r"offers resnet18: its names are acorn or acorn/\.\.\."),
        ("resnet18", ["resnet18"], "its name is that of a built-in one"),
        ("timm", ["timm/mine"], "its name is that of a built-in one"),
        ("acorn", "1 / 0", "cannot say its names: ZeroDivisionError"),
    ],
)
def test_backbones_have_the_family_s_name(install: Install, name: str, offered: object, said: str) -> None:
    """A family from outside offers its own name, or names below it; it cannot take those of others."""
    install("shapes", "3", {name: FAMILY.format(names=offered)}, "backbones")
    assert said.replace("\\", "") in models.broken()[name]
    assert "tiny_cnn" in models.names()
    assert models.plugin("resnet18") is None
    assert models.family_of("resnet18").__name__.endswith("torchvision_models")  # type: ignore[attr-defined]
    if name == "acorn":
        with pytest.raises(UserError, match=said):
            models.family_of("acorn")


def test_a_data_set_from_outside(install: Install, call: Call) -> None:
    """It is a format like any other; a broken one stands as such in ``data list``."""
    source = "from cotuning_tune.data.images import synthetic\n\n\nclass Mine(synthetic.Synthetic):\n    pass\n"
    install("acme", "1.2", {"mine": f'"""Mine."""\n\n{source}', "wrong": "1 / 0"}, "datasets")
    assert data.data_set("mine").__module__ == "acme.mine"
    assert call("list", "data", "mine")[1] == [f"{'mine':<24}Mine. [acme 1.2]"]
    shown = call("data", "list")[1]
    assert any(line.startswith("mine ") and line.endswith("Mine. [acme 1.2]") for line in shown)
    assert "broken: the plug-in 'wrong' of acme 1.2 cannot be imported: ZeroDivisionError" in shown[-1]


def test_a_run_records_its_plugins(install: Install, tmp_path: Path) -> None:
    """``env.json`` holds the packages that the experiment uses; at a resume another version is said."""
    install("acme", "1.2", {"outside": METHOD})
    install("shapes", "3", {"acorn": FAMILY.format(names=["acorn"])}, "backbones")
    install("unused", "9", {"aside": METHOD})
    experiment = parse(EXPERIMENT.format(method="outside", backbone="acorn"), "it")
    run: RunDir = create_run(experiment, tmp_path / "runs", ["run"])
    packages = read_json(run.environment)["packages"]
    assert (packages["acme"], packages["shapes"], "unused" in packages) == ("1.2", "3", False)
    run.raise_incarnation()
    said: list[str] = []
    open_studies(run, experiment, said.append)
    assert said == []
    described = tmp_path / "acme" / "acme-1.2.dist-info" / "METADATA"
    described.write_text(described.read_text().replace("1.2", "1.3"))
    plugins._installed.cache_clear()
    open_studies(run, experiment, said.append)
    assert said == ["WARNING: the plug-ins of acme 1.3 are used, the run began with 1.2: results may differ"]
