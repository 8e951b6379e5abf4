"""The driver's own cost of a trial: late ones against early ones, and the resume of a long search.

python benchmarks/driver.py [--trials 10000]

Trials that train nothing go through the product's searcher, recorder and journal: drawn, one report, ended. The last
hundred are timed in turn with a hundred early ones of a search beside it, so that both see the same machine.
100,000 trials take ten minutes.
"""

import argparse
import tempfile
import time
from pathlib import Path
from unittest import mock

from pairs import compare, keep

from cotuning_tune.cluster.connection import Concurrency
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import make_identity
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search.driver import open_studies
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.searcher import StudySearcher

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 1000000
sampler = "random"
selection = "max"
"""
EXPERIMENT = parse(TEXT, "many")
BATCH, PAIRS = 100, 7


class Search:
    """A search in a folder of its own, whose trials end as soon as they have begun."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir(folder)
        make_identity(self.run, "many")
        self.run.experiment_file.write_text(TEXT)
        self.run.environment.write_text("{}")
        self.open()

    def open(self) -> None:
        """As a driver opens it."""
        studies = open_studies(self.run, EXPERIMENT, print)
        driver = Driver(self.run.raise_incarnation(), Concurrency(1, 0.0, 1), Stream(self.run), studies.check_owner)
        self.searcher = StudySearcher(studies, Recorder(self.run), self.run, driver)

    def work(self, trials: int) -> None:
        """So many trials more."""
        row = {"epoch": 1, "val_score": 50.0, "val_loss": 1.0, "train_ce": 1.0, "train_loss": 1.0, "seconds": 0.0}
        report = {"history": [row], "epochs": 1, "notices": [], "failed": "", "fenced": False, "changed": ""}
        report |= {
            "val_score": 50.0,
            "val_loss": 1.0,
            "own": False,
            "ready": False,
            "tested": [],
            "completed": True,
            "done": True,
        }
        for number in range(trials):
            assert self.searcher.suggest(str(number))
            self.searcher.on_trial_complete(str(number), report)  # type: ignore[arg-type]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10000)
    trials = parser.parse_args(arguments).trials
    with tempfile.TemporaryDirectory() as folder:
        long, short = (Search(Path(folder) / name) for name in ("long", "short"))
        short.work(BATCH)
        start = time.perf_counter()
        with mock.patch("os.fsync"):  # nothing is timed yet
            long.work(trials)
        print(f"{trials} trials in {time.perf_counter() - start:.0f} s")
        late = compare(
            f"the driver's cost of a trial after {trials} others, against after {BATCH}",
            lambda: long.work(BATCH),
            lambda: short.work(BATCH),
            "at most 1.2",
            PAIRS,
        )
        start = time.perf_counter()
        long.open()
        print(f"resume of {trials} trials: {time.perf_counter() - start:.1f} s")
        keep("driver", [late])


if __name__ == "__main__":
    main()
