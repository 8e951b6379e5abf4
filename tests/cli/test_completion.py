"""Completion of the command line, in a real bash."""

import subprocess
import sys
from pathlib import Path

import pytest

ASK = """eval "$("$1" -m cotuning_tune.cli completion bash)"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_cotuning_tune
printf '%s\\n' "${COMPREPLY[@]}" """


def completed(line: str, folder: Path) -> set[str]:
    """What bash offers for the last word of a line, typed in ``folder``."""
    words = ["cotuning-tune", *line.split(" ")]
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", sys.executable, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("re", {"report", "resume", "retrain"}),
        ("in", {"init"}),
        ("ch", {"check"}),
        ("run --dr", {"--dry-run"}),
        ("plan --se", {"--set"}),
        ("status --js", {"--json"}),
        ("launch s", {"slurm", "ssh", "submit", "status", "stop"}),
        ("export made --format t", {"timm", "torchscript", "torchvision", "transformers"}),
        ("run --optuna", {"--optuna-storage"}),
        ("run m", {"made", "mine.toml"}),
        ("plan --json m", {"made", "mine.toml"}),
        ("report m", {"made"}),
        ("launch slurm --storage m", {"made"}),
        ("data verify --root m", {"made"}),
    ],
)
def test_bash_completes(tmp_path: Path, line: str, found: set[str]) -> None:
    """Commands, options, choices; a file where one is asked for, a folder where a run or a storage is."""
    (tmp_path / "made").mkdir()
    (tmp_path / "mine.toml").touch()
    assert completed(line, tmp_path) == found


@pytest.mark.parametrize(
    ("shell", "option"),
    [("zsh", "--{0}["), ("fish", " -l {0} "), ("tcsh", " {0} ")],
)
def test_other_shells_have_a_script(shell: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It completes the command by its name, and knows commands and options."""
    from cotuning_tune import cli

    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("cotuning-tune", "build-coco70", "init", "check"):
        assert word in script
    for name in ("set", "dry-run", "json"):
        assert option.format(name) in script
