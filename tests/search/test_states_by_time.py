"""A search whose states are written by time: a pause keeps every finished epoch, a kill may take some back."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from cotuning_tune.base.files import read_json
from cotuning_tune.runs.folder import RunDir, TrialDir
from cotuning_tune.runs.records import read_rows
from cotuning_tune.training import TrainingJob, TrainingSpec
from cotuning_tune.training.state import unpacked
from tests.search.conftest import call
from tests.search.kills import EXPERIMENT, kill_all, start, wait_for

LONG = EXPERIMENT.format(trials=2).replace("state_every = 0", "state_every = 1e9").replace("epochs = 4", "epochs = 30")
LONG = LONG.replace('methods = ["fine_tune", "l2_sp"]', 'methods = ["fine_tune"]').replace(", 1e30", "")


def trials(run: RunDir) -> list[TrialDir]:
    return [TrialDir(path) for path in sorted(run.path.glob("studies/*/trials/*"))]


@pytest.mark.proof
@pytest.mark.parametrize("pauses", [True, False], ids=["paused", "killed"])
def test_what_each_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: bool) -> None:
    """Ended in order, states hold what was reported; killed, there are none. The ends are the undisturbed ones."""
    file, run, trace = tmp_path / "kills.toml", RunDir(tmp_path / "kills"), tmp_path / "trace"
    file.write_text(LONG)
    monkeypatch.setenv("COTUNING_TUNE_TRACE", str(trace))
    driver = start("search", file, "--storage", tmp_path, "--num-cpus", 2)
    try:
        wait_for(lambda: any(len(read_rows(one.metrics)) >= 3 for one in trials(run)), driver, "three epochs")
        if pauses:
            driver.send_signal(signal.SIGTERM)
            assert driver.wait(300) == 85
    finally:
        kill_all(driver)
    left = {one.path.name: len(read_rows(one.metrics)) for one in trials(run) if not one.result.exists()}
    states = {one.path.name: one.state for one in trials(run) if one.state.exists() and not one.result.exists()}
    assert any(left.values())
    if pauses:
        kept = {name: len(unpacked(state.read_bytes())["history"]) for name, state in states.items()}
        assert all(kept.get(name, 0) >= rows for name, rows in left.items())
    else:
        assert not states
    resumed = call("resume", run.path, "--num-cpus", 2)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    begun = Counter(line.split(" ", 1)[1] for line in trace.read_text().splitlines() if line.startswith("begin "))
    again = Counter(name.split()[1] for name, times in begun.items() if times > 1)
    if pauses:
        assert all(count == 1 for count in again.values()), again  # the epoch that was under way
    else:
        assert all(again[name] >= rows for name, rows in left.items() if rows)
    for one in trials(run)[:2]:
        job = TrainingJob(TrainingSpec.from_json(read_json(one.config)["specs"][0]))
        while not job.finished:
            job.advance()
        assert json.loads(one.result.read_text())["value"] == job.history[-1]["val_score"]
        assert [row["val_score"] for row in read_rows(one.metrics)] == [row["val_score"] for row in job.history]
