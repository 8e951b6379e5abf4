"""A real service is killed again and again, real processes are its drivers: nothing is lost, nothing driven twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import holder
from cotuning_tune.service.asked import Submission
from cotuning_tune.service.drivers import Drivers
from cotuning_tune.service.rebuild import rebuild
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.store import Store
from tests.service.storm import settings_of
from tests.service.world import people_in, runs_in

# Drivers outlive the service that has started them.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
RUNS, STEPS = 8, 20
CODE = [sys.executable, "-m", "tests.service.storm"]


def kill_again_and_again(root: Path, kills: int) -> None:
    """Kill the service so often, each time some moments after it has begun its rounds."""
    for _ in range(kills):
        (root / "up").unlink(missing_ok=True)
        service = subprocess.Popen([*CODE, str(root), str(STEPS)])
        deadline = time.monotonic() + 120
        while not (root / "up").exists():
            assert time.monotonic() < deadline
            assert service.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0.0, 0.6))
        service.send_signal(signal.SIGKILL)
        service.wait()


def settle(root: Path, store: Store) -> None:
    """Rounds without a kill, until nothing is open."""
    reconciler = Reconciler(store, Drivers(settings_of(root, STEPS)))
    deadline = time.monotonic() + 240
    while reconciler._open_runs():
        assert time.monotonic() < deadline, [
            (run["name"], run["state"], run["reason"]) for run in reconciler._open_runs()
        ]
        reconciler.round()
        time.sleep(0.05)
    reconciler.stop()


def check(root: Path) -> None:
    """Each run's epochs are all there, each once, and no driver ever found another one at work."""
    for number in range(RUNS):
        run = RunDir(root / "runs" / "ann" / f"run{number}")
        rows = run.study("s").trial(0).metrics.read_text().split()
        assert rows == [str(step) for step in range(STEPS)]
        assert not (run.path / "doubles").exists()
        assert holder(run) is None


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.storm)])
def test_a_service_that_is_killed_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setattr("cotuning_tune.service.states.BACKOFF_S", 0.1)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )
    settings = settings_of(tmp_path, STEPS)
    store = Store(settings.database)
    ann = people_in(store, ann="member")["ann"]
    verbs = runs_in(store, settings, time.time)
    for number in range(RUNS):
        verbs.submit(ann, Submission(experiment="", name=f"run{number}", most=1, backend="here"))
    store.close()
    kill_again_and_again(tmp_path, kills)
    store = Store(settings.database)
    settle(tmp_path, store)
    assert [run["reason"] for run in verbs_of(store, settings, ann) if run["state"] != "done"] == []
    store.close()
    check(tmp_path)
    for path in tmp_path.glob("service.db*"):
        path.unlink()
    store = Store(settings.database)
    taken, left = rebuild(store, settings, time.time())
    assert (len(taken), left) == (RUNS, [])
    settle(tmp_path, store)
    assert {(run["state"], run["owner"]) for run in verbs_of(store, settings, ann)} == {("done", "ann")}
    store.close()
    check(tmp_path)


def verbs_of(store: Store, settings: object, actor: object) -> list[dict[str, object]]:
    """Every run in the database."""
    found: list[dict[str, object]] = runs_in(store, settings, time.time).listed(actor)["runs"]  # type: ignore[arg-type]
    assert len(found) == RUNS
    return found
