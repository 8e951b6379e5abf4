"""A service over a made-up world, with people, and run folders that look as drivers leave them."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from cotuning_tune.service.asked import Checked, Runs, Submission
from cotuning_tune.service.http.app import make_app
from cotuning_tune.service.http.guard import CSRF_FIELD
from cotuning_tune.service.people import Actor, link
from cotuning_tune.service.problems import Problem
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.settings import Settings
from cotuning_tune.service.store import Store
from tests.service.world import World, people_in, settings_in

EXPERIMENT = '[experiment]\ntasks = ["birds"]\nmethods = ["fine_tune"]\ntrials = 4\n'


def check(text: str, name: str) -> Checked:
    """Four trials of a core; a line with 'wrong' is a mistake."""
    for number, line in enumerate(text.splitlines(), 1):
        if "wrong" in line:
            raise Problem(f"unknown key '{line.split()[0]}'", "trials is possible", key="experiment.wrong", line=number)
    studies = ["birds-1.00-fine_tune"]
    return Checked(trials=4, gpus=1.0, cpus=1.0, content={"studies": studies, "trainings": 10, "seeds": 3, "trials": 4})


@dataclass
class House:
    """The service's parts, as ``guard.Service`` has them."""

    settings: Settings
    store: Store
    world: World
    runs: Runs
    reconciler: Reconciler
    now: Callable[[], float]
    people: dict[str, Actor] = field(default_factory=dict)

    def submit(self, owner: str, name: str, **more: Any) -> dict[str, Any]:
        """A run of theirs."""
        return self.runs.submit(self.people[owner], Submission(experiment=EXPERIMENT, name=name, **more))


@contextmanager
def house_in(root: Path, **roles: str) -> Iterator[House]:
    """A house with people of these roles."""
    settings = settings_in(root)
    store, world = Store(settings.database), World()
    reconciler = Reconciler(store, world, time.time)
    runs = Runs(store, settings, check, now=time.time)
    try:
        yield House(settings, store, world, runs, reconciler, time.time, people_in(store, **roles))
    finally:
        reconciler.stop()
        store.close()


def sign_in(house: House, name: str) -> TestClient:
    """A browser of somebody, signed in by a link and its button."""
    client = TestClient(make_app(house), base_url="http://127.0.0.1", follow_redirects=False)
    answer = client.post("/sign-in", data={"secret": link(house.store, name, house.now())})
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    return client


def post(client: TestClient, page: str, action: str, **sent: str) -> Any:
    """Send a form of a page, with what that page holds hidden."""
    text = client.get(page).text
    token = text.split(f'name="{CSRF_FIELD}" value="')[1].split('"')[0]
    assert f'action="{action}"' in text, f"{page} has no form that leads to {action}"
    return client.post(action, data={CSRF_FIELD: token, **sent})


def fill_folder(
    run: dict[str, Any], *, study: str = "birds-1.00-fine_tune", trials: int = 5, ended: bool = False
) -> None:
    """Write a run's folder: a study with trials that ended well, one that failed, one that was stopped, one that runs."""
    folder = Path(run["folder"])
    own = folder / "studies" / study
    for number in range(trials):
        trial = own / "trials" / f"{number:04d}"
        trial.mkdir(parents=True, exist_ok=True)
        values = {"optim/lr": 0.001 * 3**number, "batch_norm": ("train", "frozen")[number % 2], "weight": 0.5 + number}
        _write(trial / "config.json", {"trial": number, "values": values, "specs": []})
        rows = [
            {
                "epoch": n,
                "val_score": 40.0 + 6 * n + number,
                "val_loss": 2 / n,
                "train_loss": 3 / n,
                "lr": 0.01,
                "seconds": 2.5,
            }
            for n in range(1, 6)
        ]
        (trial / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        state = {1: "FAIL", 2: "PRUNED", trials - 1: "COMPLETE" if ended else "RUNNING"}.get(number, "COMPLETE")
        if state != "RUNNING":
            failed = state == "FAIL"
            result = {"state": state, "value": None if failed else 70.0 + number, "epochs": 5, "seconds": 12.5}
            _write(trial / "result.json", result | {"reason": "the loss is not finite" if failed else ""})
    for seed in range(3 if ended else 0):
        _write(
            own / "retrain" / f"seed{seed}" / "result.json",
            {"state": "COMPLETE", "seed": seed, "test_score": 71.0 + seed},
        )
    if ended:
        (folder / "report").mkdir(exist_ok=True)
        (folder / "report" / "index.html").write_text("<!doctype html><title>report</title><script>0</script>")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
