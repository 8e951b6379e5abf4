"""How long a command takes before it says something, beside the interpreter alone.

python benchmarks/start.py [--trials 10000] [--pairs 5]

``--help``, ``list``, and ``status`` of a run of so many trials in two studies (``driver.py`` makes it).
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

from driver import Search
from pairs import Comparison, compare, keep

BOUNDS = {"--help": 0.3, "list": 0.3, "status": 2.0}


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "cotuning_tune.cli", *words], check=True, capture_output=True)


def interpreter() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def measured(name: str, pairs: int, *words: object) -> Comparison:
    """One command against the interpreter alone."""
    found = compare(name, lambda: command(*words), interpreter, "", pairs)
    return replace(found, target=f"at most {BOUNDS[str(words[0])]} s")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        search = Search(Path(folder) / "many")
        with mock.patch("os.fsync"):  # nothing is timed yet
            search.work(options.trials)
        found = [
            measured(name, options.pairs, *words)
            for name, words in [("--help", ["--help"]), ("list methods", ["list", "methods"])]
        ]
        found.append(measured(f"status of {options.trials} trials", options.pairs, "status", search.run.path))
    keep("start", found)


if __name__ == "__main__":
    main()
