"""What may die, what is lost, how long until work goes on: each case done to a real search, and measured.

    python -m tests.chaos.recovery --json benchmarks/results/recovery-cpu.json     (make recovery)

Seconds run from the death to the first epoch that begins afterwards, a start of Ray included where a new
driver is needed. Lost are epochs that had begun and were trained again. Ends with code 1 where a case
leaves other results than a search that nobody disturbed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.storm import Storm, actors_below, finish, kill_session

TRIALS = 6
RAY_CHECKS = {"initial_delay_ms": 1000, "period_ms": 2000, "failure_threshold": 4}


class Case:
    """One search in a folder of its own, with one misfortune."""

    def __init__(self, folder: Path, misfortune: Callable[["Case"], float]) -> None:
        self.storm = Storm(folder, TRIALS, 0)
        self.process: subprocess.Popen[bytes] | None = None
        self.misfortune = misfortune

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """A driver; with the case's own cluster where it has one."""
        self.process = self.storm.driver(*(options or ("--num-cpus", "2")))
        return self.process

    def at_work(self) -> subprocess.Popen[bytes]:
        """A driver that has trained for some epochs."""
        process = self.start()
        assert self.storm.wait_for_work(process, 9)
        return process

    def until_next_begin(self, since: float) -> float:
        """Seconds from ``since`` until the next epoch begins."""
        before, deadline = self.begins(), time.monotonic() + 300
        while self.begins() == before:
            assert time.monotonic() < deadline, "no epoch in five minutes"
            time.sleep(0.02)
        return time.monotonic() - since

    def begins(self) -> int:
        trace = self.storm.trace
        return sum(line.startswith("begin") for line in trace.read_text().splitlines()) if trace.exists() else 0


def worker(case: Case) -> float:
    """One trial's process is killed."""
    process = case.at_work()
    os.kill(actors_below(process.pid)[0], signal.SIGKILL)
    since = time.monotonic()
    time.sleep(0.5)  # the other trial goes on all the time: wait until both have work again
    while len(actors_below(process.pid)) < 2:
        time.sleep(0.02)
    seconds = case.until_next_begin(since)
    assert process.wait(600) == 0
    return seconds


def driver_alone(case: Case) -> float:
    """The driver is killed, its workers live on; the same command is given again at once."""
    process = case.at_work()
    process.kill()
    process.wait()
    return _again(case)


def machine(case: Case) -> float:
    """The driver and all of Ray are killed at once, as by a power cut; the same command again."""
    kill_session(case.at_work())
    return _again(case)


def retraining(case: Case) -> float:
    """The machine dies while the chosen configurations are retrained; the same command again."""
    folder = case.storm.run
    process = case.storm.driver("--num-cpus", "2", verb="run")
    while not list(folder.glob("studies/*/retrain/*/state.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    kill_session(process)
    since = time.monotonic()
    process = case.storm.driver("--num-cpus", "2", verb="run")
    time.sleep(1)  # what a worker began as it died does not count; a driver takes longer to start
    seconds = case.until_next_begin(since)
    assert process.wait(600) == 0
    return seconds


def _again(case: Case) -> float:
    since = time.monotonic()
    process = case.start()
    seconds = case.until_next_begin(since)
    assert process.wait(600) == 0
    return seconds


def _cluster(case: Case, nodes: int) -> Any:
    from ray.cluster_utils import Cluster

    os.environ["COTUNING_TUNE_TRACE"] = str(case.storm.trace)
    checks = {f"health_check_{key}": value for key, value in RAY_CHECKS.items()}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1)
    return cluster


def node(case: Case) -> float:
    """One of three nodes is killed; the driver's own lives."""
    cluster = _cluster(case, 2)
    try:
        process = case.start("--address", cluster.address)
        assert case.storm.wait_for_work(process, 9)
        since = time.monotonic()
        cluster.remove_node(sorted(cluster.worker_nodes, key=lambda n: n.unique_id)[-1], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        seconds = case.until_next_begin(since)
        code = process.wait(600)
        if code == 85:
            process = case.start("--address", cluster.address)
            code = process.wait(600)
        assert code == 0
    finally:
        cluster.shutdown()
    return seconds


def cluster_gone(case: Case) -> float:
    """Head and nodes of a cluster die under a driver: it ends with code 85; resumed on another cluster."""
    cluster = _cluster(case, 2)
    try:
        process = case.start("--address", cluster.address)
        assert case.storm.wait_for_work(process, 9)
        for one in cluster.list_all_nodes():
            one.kill_all_processes(check_alive=False, allow_graceful=False)
        since = time.monotonic()
        assert process.wait(120) == 85
        print(f"  the driver ended with code 85 after {time.monotonic() - since:.1f} s", flush=True)
    finally:
        cluster.shutdown()
    return _again(case)


def storage(case: Case) -> float:
    """The folder of the run vanishes for ten seconds; seconds from its return."""
    process = case.at_work()
    away = case.storm.folder / "away"
    case.storm.run.rename(away)
    time.sleep(10)
    away.rename(case.storm.run)
    seconds = case.until_next_begin(time.monotonic())
    assert process.wait(600) == 0
    return seconds


CASES: dict[str, Callable[[Case], float]] = {
    "a trial's process": worker,
    "the driver alone": driver_alone,
    "driver and all of Ray (the machine)": machine,
    "the machine, while retraining": retraining,
    "a node of three": node,
    "the whole cluster under a driver": cluster_gone,
    "the storage, for 10 s": storage,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--only", help="the cases whose name contains this; the others keep their figures")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="recovery") as name:
        calm = Storm(Path(name) / "calm", TRIALS, 0)
        finish(calm, "--num-cpus", "2")
        for what, misfortune in CASES.items():
            if options.only and options.only not in what:
                continue
            case = Case(Path(name) / what.replace(" ", "-").replace("'", ""), misfortune)
            seconds = misfortune(case)
            found = case.storm.outcome(what, 1, calm.states())
            lost = found.epochs_begun - found.epochs_ended
            rows.append({"dies": what, "seconds": round(seconds, 1), "epochs_lost": lost, "good": found.good})
            print(f"{what:<38} epochs lost {lost}  work goes on after {seconds:5.1f} s  {found.line()}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(options.json.read_text())["cases"] if options.only and options.json.exists() else []
        kept = {row["dies"]: row for row in (*old, *rows)}
        options.json.write_text(json.dumps({"cores": os.cpu_count(), "cases": list(kept.values())}, indent=2) + "\n")
    return 0 if all(row["good"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
