"""Words on the command line that are wrong, or that were right once: each is one line that names the right one."""

import subprocess
import sys
from pathlib import Path

import pytest

from cotuning_tune.base import former_names
from cotuning_tune.base.files import write_bytes
from tests.cli.test_cli import TINY, Call, check_one_line

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["ru"], "cotuning-tune: no command 'ru', did you mean 'run'? there are: check, compare, "),
        (
            ["launch", "slrm"],
            "cotuning-tune launch: no backend or verb 'slrm', did you mean 'slurm'? there are: cloud, ",
        ),
        (["run"], "cotuning-tune run: the following arguments are required: EXPERIMENT (see cotuning-tune run --help)"),
        (
            ["launch", "slurm"],
            "cotuning-tune: launch slurm needs an EXPERIMENT: a file, or the name of a shipped experiment",
        ),
        (["run", TINY, "b"], "cotuning-tune: unrecognized arguments: b (see cotuning-tune --help)"),
        ([], "cotuning-tune: the following arguments are required: COMMAND (see cotuning-tune --help)"),
    ],
)
def test_a_mistyped_command_line(words: list[str], line: str) -> None:
    """One line, too, without the usage of everything; exit code 2."""
    command = [sys.executable, "-m", "cotuning_tune.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", TINY, "--studies", "sqlite://"], "the option --studies is called --optuna-storage now"),
        (["run", TINY, "--studies=sqlite://"], "the option --studies is called --optuna-storage now"),
        (["export", "made", "--cell", "x"], "the option --cell is called --study now"),
        (["plan", TINY, "--slots", "2"], "the option --slots is called --concurrent-trials now"),
    ],
)
def test_a_former_option(call: Call, words: list[str], line: str) -> None:
    """An option that had another name is one line with its present name."""
    assert call(*words) == (2, [], [f"cotuning-tune: {line}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--storage", TINY], ["tiny.toml/tiny", "cannot be made", "--storage"]),
        (["--num-cpus", "0"], ["--num-cpus 0", "at least 1"]),
        (["--optuna-storage", "nonsense"], ["storage of the studies cannot be opened"]),
        (["--repeat-search", "0"], ["--repeat-search 0", "1 (no repeat) or more"]),
    ],
)
def test_an_option_that_cannot_be(call: Call, tmp_path: Path, words: list[str], said: list[str]) -> None:
    """A value that cannot be used is one line that says why, after notes at most, and no trial begins."""
    storage = [] if "--storage" in words else ["--storage", str(tmp_path)]
    code, out, err = call("run", TINY, *storage, *words)
    check_one_line((code, [line for line in out if not line.startswith("note: ")], err), said)
    assert not list(tmp_path.rglob("trials"))


@pytest.mark.parametrize("what", ["methods", "data", "models"])
def test_a_pattern_of_nothing(call: Call, what: str) -> None:
    """A pattern that no name matches is one line."""
    check_one_line(call("list", what, "zz*"), ["matches 'zz*'"])


def test_a_former_variable(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable that had another name is refused, not passed over: the studies would go elsewhere."""
    monkeypatch.setenv("COTUNING_TUNE_STUDIES", "sqlite://")
    words = ["COTUNING_TUNE_STUDIES is called COTUNING_TUNE_OPTUNA_STORAGE now"]
    check_one_line(call("list", "data"), words)


@pytest.mark.parametrize("name", former_names.FILES)
@pytest.mark.parametrize("command", ["run", "resume", "retrain", "extend", "report", "status", "compare", "export"])
def test_a_run_of_a_former_layout(call: Call, tmp_path: Path, command: str, name: str) -> None:
    """Every command that opens a run refuses it in one line, and writes nothing into its folder."""
    run = tmp_path / "tiny"
    write_bytes(run / "experiment.toml", Path(TINY).read_bytes())
    write_bytes(run / name, b"")
    more = {"extend": ["--trials", "1"], "export": ["--study", "x", "--format", "onnx"]}.get(command, [])
    words = [TINY, "--storage", tmp_path] if command == "run" else [run, *more]
    check_one_line(call(command, *words), [str(run), "an earlier version", f"it holds {name}", "--name"])
    assert sorted(path.name for path in run.iterdir()) == sorted(["experiment.toml", name])
