"""Kill storms: searches whose drivers, workers or nodes are killed at random moments, again and again.

    python -m tests.chaos.storm --drivers 40 --workers 40 --nodes 20 --seed 0     (make chaos)

For each kind of kill one search of the tiny experiment's size runs until it is finished, and is compared
with a search that nobody disturbed: trial budget, finished, lost, finished twice; epochs trained beyond the
ideal; whether every value is equal to the last bit. Ends with code 1 where anything is lost, twice or unequal.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from optuna import get_all_study_names, load_study
from optuna.trial import TrialState

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.storage import read_storage

EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune", "bss", "l2_sp"]
backbone = "tiny_cnn"
trials = {trials}
sampler = "random"
selection = "max"
[task]
size = 32
resize = 32
[data.synthetic]
images = 60
[resources]
state_every = 0
[train]
epochs = 4
batch_size = 8
"""
ACTOR = (b"ray::ResourceTrainable", b"ray::TrainingTrial")  # at work, and between two steps
UNFINISHED = 85


@dataclass(frozen=True)
class Outcome:
    """What became of one storm."""

    kind: str
    kills: int
    seconds: float
    budget: int
    finished: int
    lost: int
    twice: int
    epochs_ideal: int
    epochs_ended: int
    epochs_begun: int
    equal: bool
    opened: int = 0
    announced: int = 0

    @property
    def good(self) -> bool:
        return not self.lost and not self.twice and self.equal and self.opened <= self.announced

    def line(self) -> str:
        return (
            f"{self.kind:<12} kills {self.kills:>3}  asked {self.budget:>3}  finished {self.finished:>3}"
            f"  lost {self.lost}  twice {self.twice}  epochs ideal {self.epochs_ideal}"
            f"  ended {self.epochs_ended}  begun {self.epochs_begun}"
            f"  test split opened {self.opened} of {self.announced} announced"
            f"  {'equal to the last bit' if self.equal else 'UNEQUAL'}  {self.seconds:.0f} s"
        )


class Storm:
    """One search in a folder of its own, and the means to disturb it; ``inside``: as a command is run on its host."""

    inside: Callable[[list[str]], list[str]] = staticmethod(lambda command: command)

    def __init__(self, folder: Path, trials: int, seed: int, experiment: str = EXPERIMENT) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.file, self.run, self.trace = folder / "storm.toml", folder / "storm", folder / "trace.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(experiment.format(trials=trials))
        self.budget = 3 * trials
        self.start = time.monotonic()

    def driver(self, *options: str, verb: str = "search") -> subprocess.Popen[bytes]:
        """A driver in a session of its own: starts the search, or goes on with it."""
        return self.process(verb, self.file, "--storage", self.folder, *options)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def process(self, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        """``cotuning-tune`` with these words, in a session of its own."""
        with (self.folder / "driver.log").open("ab") as log:
            return subprocess.Popen(
                self.inside([sys.executable, "-m", "cotuning_tune.cli", *map(str, words)]),
                env={**os.environ, "OMP_NUM_THREADS": "1", "COTUNING_TUNE_TRACE": str(self.trace), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lines(self) -> int:
        """How many epochs have begun or ended so far."""
        return len(self.trace.read_text().splitlines()) if self.trace.exists() else 0

    def wait_for_work(self, process: subprocess.Popen[bytes], more: int) -> bool:
        """Wait until some more epochs have begun or ended; False where the driver ended before."""
        goal, deadline = self.lines() + more, time.monotonic() + 180
        while self.lines() < goal:
            if process.poll() is not None:
                return False
            assert time.monotonic() < deadline, "no epoch in three minutes"
            time.sleep(0.02)
        time.sleep(self.draw.uniform(0, 0.3))
        return process.poll() is None

    def states(self) -> dict[str, list[tuple[object, ...]]]:
        """All that must not depend on being disturbed."""
        storage = read_storage(RunDir(self.run))
        assert storage is not None
        return {
            name.split("/", 1)[1]: [
                (t.number, t.state.name, t.value, sorted(t.params.items()), sorted(t.intermediate_values.items()))
                for t in load_study(study_name=name, storage=storage).trials
            ]
            for name in get_all_study_names(storage)
        }

    def outcome(self, kind: str, kills: int, calm: dict[str, list[tuple[object, ...]]] | None) -> Outcome:
        found = self.states()
        rows = [row for rows in found.values() for row in rows]
        finished = sum(row[1] == TrialState.COMPLETE.name for row in rows)
        words = [line.split(" ", 1) for line in self.trace.read_text().splitlines()]
        ended = Counter(text for event, text in words if event == "end")
        return Outcome(
            kind,
            kills,
            self.seconds,
            self.budget,
            finished,
            self.budget - finished,
            max(0, finished - self.budget),
            4 * self.budget,
            sum(ended.values()),
            sum(event == "begin" for event, _ in words),
            calm is None or found == calm,
        )


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the driver and all of its Ray, as a machine that loses power does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(storm: Storm, *options: str) -> None:
    """Let the search come to its end undisturbed."""
    process = storm.driver(*options)
    assert process.wait(600) == 0, (storm.folder / "driver.log").read_text()[-2000:]


def storm_of_drivers(storm: Storm, kills: int) -> int:
    """Kill the driver, alone or with all of its processes, a moment after work has begun."""
    done = 0
    while done < kills:
        process = storm.driver("--num-cpus", "2")
        early = storm.draw.random() < 0.15
        if early:
            time.sleep(storm.draw.uniform(0.5, 8))
        elif not storm.wait_for_work(process, storm.draw.randint(1, 4)):
            break
        if process.poll() is not None:
            break
        if storm.draw.random() < 0.5:
            process.kill()
            process.wait()
        else:
            kill_session(process)
        done += 1
    finish(storm, "--num-cpus", "2")
    return done


def actors_below(session: int) -> list[int]:
    """Trial actors that belong to a driver's session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:
            continue
        if title.startswith(ACTOR) and int(stat.rsplit(")", 1)[1].split()[3]) == session:
            found.append(int(folder.name))
    return found


def storm_of_workers(storm: Storm, kills: int) -> int:
    """Kill trial actors while they train; the driver lives on. A trial may be lost three times at an epoch."""
    done = 0
    process = storm.driver("--num-cpus", "2")
    while done < kills and storm.wait_for_work(process, storm.draw.randint(5, 9)):
        victims = actors_below(process.pid)
        if not victims:
            continue
        try:
            os.kill(storm.draw.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
    assert process.wait(900) == 0, (storm.folder / "driver.log").read_text()[-2000:]
    return done


def storm_of_nodes(storm: Storm, kills: int) -> int:
    """Kill whole nodes of a cluster of three, and let a new one join each time."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["COTUNING_TUNE_TRACE"] = str(storm.trace)  # for the workers of these nodes
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    done = 0
    try:
        code = UNFINISHED
        while code == UNFINISHED:  # the driver's own node may be the one that was killed
            process = storm.driver("--address", cluster.address)
            while done < kills and storm.wait_for_work(process, storm.draw.randint(6, 10)):
                victim = nodes.pop(storm.draw.randrange(len(nodes)))
                cluster.remove_node(victim, allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1))
                done += 1
            code = process.wait(900)
        assert code == 0, (storm.folder / "driver.log").read_text()[-2000:]
    finally:
        ray.shutdown()
        cluster.shutdown()
    return done


STORMS = {"drivers": storm_of_drivers, "workers": storm_of_workers, "nodes": storm_of_nodes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind in STORMS:
        parser.add_argument(f"--{kind}", type=int, default=0, help=f"how many {kind} to kill")
    parser.add_argument("--trials", type=int, default=16, help="of each of the three studies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the outcomes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm") as name:
        calm = Storm(Path(name) / "calm", options.trials, options.seed)
        finish(calm, "--num-cpus", "2")
        outcomes = [calm.outcome("undisturbed", 0, None)]
        print(outcomes[0].line(), flush=True)
        for kind, work in STORMS.items():
            if not (kills := getattr(options, kind)):
                continue
            storm = Storm(Path(name) / kind, options.trials, options.seed)
            outcomes.append(storm.outcome(kind, work(storm, kills), calm.states()))
            print(outcomes[-1].line(), flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=2) + "\n")
    return 0 if all(o.good for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
