"""Clusters that go away, disks that fill up, drivers that race, nodes that come back: nothing lost, nothing doubled."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import read_json
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from tests.moments import at, reached
from tests.search.conftest import call
from tests.search.kills import kill_all, start, summary, wait_for, write_experiment

pytestmark = pytest.mark.proof
CHECKS = {"initial_delay_ms": 1000, "period_ms": 1000, "failure_threshold": 3}
FAST_CHECKS = {f"health_check_{key}": value for key, value in CHECKS.items()}


def states(run: Path) -> list[Path]:
    return list(run.glob("studies/*/trials/*/state.pt"))


@contextmanager
def cluster(nodes: int, trace: Path) -> Iterator[Any]:
    """A Ray cluster of a head without cores and nodes of one core, in processes of their own."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COTUNING_TUNE_TRACE", str(trace))
        patch.setenv("OMP_NUM_THREADS", "1")
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": FAST_CHECKS},
        )
        for _ in range(nodes):
            made.add_node(num_cpus=1)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def test_a_cluster_that_goes_away(tmp_path: Path, undisturbed: Path) -> None:
    """The driver ends by itself (how soon: test_watchdog) with 85 and the command that resumes, which then works."""
    run, log = tmp_path / "kills", tmp_path / "log"
    with cluster(1, tmp_path / "trace") as made:
        driver = start("search", write_experiment(tmp_path), "--storage", tmp_path, "--address", made.address, log=log)
        wait_for(lambda: states(run), driver, "a first epoch")
        for node in made.list_all_nodes():
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        assert driver.wait(600) == 85, log.read_text()
    assert f"nothing is lost, continue with: cotuning-tune resume {run}" in log.read_text()
    told = read_json(RunDir(run).summary)
    assert told["state"] == "unfinished"
    assert told["reason"].startswith("the Ray cluster has gone (")
    done = call("resume", run, "--num-cpus", 2)
    assert done.returncode == 0, done.stderr
    assert summary(run) == summary(undisturbed)


def frozen(node: Any) -> list[int]:
    """The raylet of a node and its workers."""
    (raylet,) = [info.process.pid for infos in node.all_processes.values() for info in infos if _is_raylet(info)]
    children = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=False).stdout.split()
    return [raylet, *map(int, children)]


def _is_raylet(info: Any) -> bool:
    try:
        return b"raylet/raylet" in Path(f"/proc/{info.process.pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


def test_a_node_that_comes_back(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node cut off in the middle of an epoch loses its trial; when it comes back it writes no file."""
    run, log, trace, moment = (tmp_path / name for name in ("kills", "log", "trace", "moment"))
    for name, value in at(moment, "cotuning_tune.training.job:TrainingJob.save", "wait", 3).items():
        monkeypatch.setenv(name, value)  # both nodes are in the middle of an epoch then
    with cluster(2, trace) as made:
        driver = start("search", write_experiment(tmp_path), "--storage", tmp_path, "--address", made.address, log=log)
        wait_for(lambda: reached(moment) >= 4, driver, "two trainings")
        victims = frozen(next(iter(made.worker_nodes)))
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        lines = len(trace.read_text().splitlines())
        (moment / "go").touch()
        wait_for(lambda: len(trace.read_text().splitlines()) > lines + 6, driver, "the other node goes on")
        for pid in victims:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        assert driver.wait(600) in (0, 85), log.read_text()
        if driver.returncode == 85:  # the frozen node was the driver's own
            done = call("resume", run, "--address", made.address)
            assert done.returncode == 0, done.stderr
    assert summary(run) == summary(undisturbed)
    ended = Counter(line for line in trace.read_text().splitlines() if line.startswith("end"))
    assert set(ended.values()) == {1}, [line for line, count in ended.items() if count > 1]


def test_two_drivers_in_the_same_second(tmp_path: Path, undisturbed: Path) -> None:
    """One of them works, the other is refused in one line; the result is as if it had been alone."""
    path = write_experiment(tmp_path)
    logs = [tmp_path / "one", tmp_path / "two"]
    drivers = [start("search", path, "--storage", tmp_path, "--num-cpus", 2, log=log) for log in logs]
    codes = [driver.wait(600) for driver in drivers]
    assert sorted(codes) == [0, 75], [log.read_text() for log in logs]
    refused = logs[codes.index(75)].read_text()
    assert "is being worked on by" in refused or "has started at this moment" in refused
    assert len(refused.splitlines()) == 1
    assert summary(tmp_path / "kills") == summary(undisturbed)


def test_a_driver_killed_alone(tmp_path: Path, undisturbed: Path) -> None:
    """Its workers live on for a moment while the next driver is at work already: no epoch is kept twice."""
    run, trace = tmp_path / "kills", tmp_path / "trace"
    options = ("--storage", tmp_path, "--num-cpus", 2)
    driver = start("search", write_experiment(tmp_path), *options, COTUNING_TUNE_TRACE=str(trace))
    wait_for(lambda: states(run), driver, "a first epoch")
    driver.kill()
    driver.wait()
    try:
        successor = start("resume", run, "--num-cpus", 2, COTUNING_TUNE_TRACE=str(trace))
        assert successor.wait(600) == 0
    finally:
        kill_all(driver)
    assert summary(run) == summary(undisturbed)
    assert sorted(path.name for path in (run / "drivers").iterdir()) == ["0001", "0002"]


def test_killed_while_retraining_and_reporting(tmp_path: Path, undisturbed: Path) -> None:
    """Killed in a retraining's epoch, with a test split open, while the report is written: the same models."""
    run, path = tmp_path / "kills", write_experiment(tmp_path)
    shutil.copytree(undisturbed, run, ignore=shutil.ignore_patterns("retrain", "report", "test_ledger.jsonl"))
    assert call("migrate", run, "--new-identity").returncode == 0
    moments = {
        "an epoch of a retraining": lambda: list(run.glob("studies/*/retrain/*/state.pt")),
        "an opened test split": lambda: run.joinpath("test_ledger.jsonl").exists(),
        "a beginning of the report": lambda: (run / "report").exists(),
    }
    for what, there in moments.items():
        driver = start("run", path, "--storage", tmp_path, "--num-cpus", 2, log=tmp_path / "log")
        try:
            wait_for(there, driver, what)
        finally:
            kill_all(driver)
    done = call("resume", run, "--num-cpus", 2)
    assert done.returncode == 0, done.stderr
    models = sorted(p.relative_to(undisturbed) for p in undisturbed.glob("studies/*/retrain/*/model.safetensors"))
    assert len(models) == 4
    assert [(run / m).read_bytes() for m in models] == [(undisturbed / m).read_bytes() for m in models]
    assert ledger.broken_lines(RunDir(run).ledger) == []
    table = (undisturbed / "report" / "main.csv").read_text()
    assert (run / "report" / "main.csv").read_text() == table


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A disk of its own that can be filled; skips where this process may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED on a full disk: this process may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    path = disk / "filler"
    with path.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * (1 << 16))
                file.flush()
        except OSError:
            return path


def test_a_full_disk_pauses(tmp_path: Path, undisturbed: Path) -> None:
    """With no room left the run waits and says so in one line; given room it goes on, and nothing was lost."""
    log = tmp_path / "log"
    with small_disk(tmp_path / "disk", 64) as disk:
        run = disk / "kills"
        driver = start("search", write_experiment(tmp_path), "--storage", disk, "--num-cpus", 2, log=log)
        try:
            wait_for(lambda: states(run), driver, "a first epoch")
            filler = fill(disk)
            wait_for(lambda: "paused: the disk of" in log.read_text(), driver, "the pause")
            before = (run / "optuna.journal").stat().st_size
            time.sleep(3)
            assert driver.poll() is None
            assert (run / "optuna.journal").stat().st_size == before
            filler.unlink()
            assert driver.wait(600) == 0, log.read_text()
        finally:
            kill_all(driver)
        assert "continuing: the storage is usable again" in log.read_text()
        assert summary(run) == summary(undisturbed)


def test_a_vanished_storage_pauses(tmp_path: Path, undisturbed: Path) -> None:
    """A mount that goes away makes the run wait; nothing is written in its place; it comes back, the run goes on."""
    log, run, away = tmp_path / "log", tmp_path / "runs" / "kills", tmp_path / "away"
    driver = start("search", write_experiment(tmp_path), "--storage", run.parent, "--num-cpus", 2, log=log)
    try:
        wait_for(lambda: states(run), driver, "a first epoch")
        run.rename(away)
        wait_for(lambda: "has vanished" in log.read_text(), driver, "the pause")
        assert not (run / "experiment.toml").exists()
        shutil.rmtree(run, ignore_errors=True)
        away.rename(run)
        assert driver.wait(600) == 0, log.read_text()
    finally:
        kill_all(driver)
    assert summary(run) == summary(undisturbed)
