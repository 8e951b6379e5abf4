"""Extensions of a run: by how many, to how many, and several at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.runs import budget
from cotuning_tune.runs.folder import RunDir

MANY = """
import sys
from pathlib import Path
from cotuning_tune.runs import budget
from cotuning_tune.runs.folder import RunDir
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    budget.extend(RunDir(Path(sys.argv[1])), 4, 1)
"""


def test_several_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two processes that extend a run by 1 trial 20 times each give it 40, every step on the record."""
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        process.communicate()
        assert process.returncode == 0
    run = RunDir(tmp_path)
    assert budget.Budget(run, 4).trials == 44
    assert [(step["from"], step["to"]) for step in budget.growth(run)] == [(n, n + 1) for n in range(4, 44)]


def test_to_a_number(tmp_path: Path) -> None:
    """What is asked again extends nothing twice; fewer than there are is refused."""
    run = RunDir(tmp_path)
    assert budget.extend_to(run, 4, 0.0, 4) == 4
    assert not run.budget.exists()
    for _ in range(2):
        assert budget.extend_to(run, 4, 0.0, 10) == 10
    assert budget.extend(run, 4, 1) == 11
    assert len(budget.growth(run)) == 2
    for fewer in (10, 0, -1):
        with pytest.raises(UserError, match=f"--to-trials {fewer}: every study of .* has 11 trials"):
            budget.extend_to(run, 4, 0.0, fewer)
    with pytest.raises(UserError, match="--hours H adds to them"):
        budget.extend_to(run, 0, 2.0, 5)
