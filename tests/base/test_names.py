"""Names that users choose: what is one, and that every door asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.names import MOST, check_name, check_setting
from cotuning_tune.experiment import parse
from cotuning_tune.launch import Request as Launched
from cotuning_tune.pipeline import NewRun, Request

Call = Callable[..., tuple[int, list[str], list[str]]]
BAD = {
    "../x": "'/'",
    "a/b": "'/'",
    "..": "begin with '.'",
    ".hidden": "begin with '.'",
    "-rf": "begin with '-'",
    "": "is empty",
    "a b": "' '",
    "x\ntouch y": "'\\n'",
    "$(id)": "'$'",
    "`id`": "'`'",
    "a;b": "';'",
    "it's": '"\'"',
    "vögel": "'\\xf6'",
    "x" * (MOST + 1): "101 characters",
}
TEXT = """
[experiment]
{}tasks = ["{}"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
[data.{}]
format = "synthetic"
"""


def text_of(name: str = "", task: str = "mine") -> str:
    quoted = '"' + task.replace("\n", "\\n") + '"'
    return TEXT.format(name, quoted[1:-1], quoted)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name(name: str) -> None:
    """One line that says what is wrong with it and what is possible."""
    with pytest.raises(UserError) as caught:
        check_name(name, "--name")
    assert BAD[name] in str(caught.value)
    assert "letters (a-z, A-Z), digits, '.', '_' and '-'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "A-1_b.toml", "2024", "_x", "x" * MOST, "x" * MOST + "-repeat12"])
def test_what_is_a_name(name: str) -> None:
    """It comes back as it is; a repeat of the longest name has one too."""
    assert check_name(name, "--name") == name


@pytest.mark.parametrize("name", [name for name in BAD if name])
@pytest.mark.parametrize("command", ["run", "search", "launch ssh", "launch local"])
def test_the_option(call: Call, tmp_path: Path, command: str, name: str) -> None:
    """--name is asked before anything is made, also where the file has a name of its own."""
    path = tmp_path / "mine.toml"
    path.write_text(text_of('name = "mine"\n'))
    code, out, (line,) = call(*command.split(), path, "--storage", tmp_path / "a" / "runs", f"--name={name}")
    assert (code, out) == (2, [])
    assert line.startswith("cotuning-tune: --name ")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("key", ["name", "stem", "task"])
@pytest.mark.parametrize("command", ["run", "plan", "launch ssh"])
def test_the_file(call: Call, tmp_path: Path, command: str, key: str) -> None:
    """The file's own name, the one in it and those of its tasks are asked, with the line where there is one."""
    path = tmp_path / ("my $(id).toml" if key == "stem" else "mine.toml")
    path.write_text(text_of('name = "../x"\n' if key == "name" else "", "a/b" if key == "task" else "mine"))
    more = [] if command == "plan" else ["--storage", tmp_path / "runs"]
    if (key, command) == ("task", "launch ssh"):
        return  # the file is read on the host, by the same door
    code, _, (line,) = call(*command.split(), path, *more)
    assert code == 2
    assert {"name": "'../x' must", "stem": "'my $(id)' must", "task": "the task 'a/b' must"}[key] in line
    if not (key == "stem" or command.startswith("launch")):
        assert f"{path} line 3" in line
    assert not (tmp_path / "runs").exists()


def test_a_name_for_a_file_without_one(call: Call, tmp_path: Path) -> None:
    """--name helps where the file's own name is none: what is refused then is another thing."""
    path = tmp_path / "my file.toml"
    path.write_text(text_of())
    assert "'my file' must not hold ' '" in call("run", path)[2][0]
    path.write_text(text_of().replace("tiny_cnn", "no_such"))
    assert "no backbone 'no_such'" in call("run", path, "--name", "ok", "--storage", tmp_path / "runs")[2][0]


def test_the_doors_of_python(tmp_path: Path) -> None:
    """A request of a run and one of a launch are refused as the command line refuses them."""
    from dataclasses import replace

    experiment = replace(parse(text_of(), "mine"), name="../x")
    with pytest.raises(UserError, match=r"name .\.\./x. must not hold ./."):
        Request(experiment=experiment, run=NewRun(storage=tmp_path))
    profile: Any = None
    with pytest.raises(UserError, match=r"name .\.\./x. must not hold ./."):
        Launched(tmp_path / "mine.toml", "../x", str(tmp_path), "", profile, tmp_path)


@pytest.mark.parametrize("setting", ["ÉTAT=1", "1A=2", "A B=1", "A", "=1", "A-B=1", "A;B=1"])
def test_what_is_no_variable(setting: str) -> None:
    """A name that Python takes and no shell does is refused."""
    with pytest.raises(UserError, match="the setting is not NAME=VALUE with a name of letters"):
        check_setting(setting, "the setting")
