"""What ``make test`` leaves out is told, and where it is run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_last_line_names_what_was_left_out() -> None:
    """How many proofs and tests on several hosts, and their targets; also where processes share the tests."""
    files = ("tests/cluster/test_connection.py", "tests/hosts/test_bed.py")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    last = "left to 'make proof': 1 slow proofs; 'make cluster-test': 4 tests on several hosts"
    assert done.stdout.splitlines()[-1] == last
