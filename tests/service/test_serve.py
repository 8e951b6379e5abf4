"""A real service with real drivers: killed, restarted, its database lost; runs paused, extended, exported."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import holder
from cotuning_tune.service.client import Client, ServiceError
from cotuning_tune.service.people import Actor, add_token, add_user
from cotuning_tune.service.store import Store
from tests.servers import free_port

pytestmark = pytest.mark.proof
EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 3
seeds = [0]
[task]
size = 16
resize = 16
[data.synthetic]
images = 60
[resources]
state_every = 0
[train]
epochs = 4
"""


class Served:
    """The command, which can be killed and started again."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.process: subprocess.Popen[str] | None = None
        self.start()
        self.client = self.sign_in()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *more: str) -> None:
        words = ["serve", "--root", str(self.root), "--port", str(self.port), *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cotuning_tune.cli", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "/sign-in/" in line:
                return
        raise AssertionError("the service did not start")

    def sign_in(self) -> Client:
        """A client of its admin."""
        store = Store(f"sqlite:///{self.root / 'service.db'}", active=False)
        try:
            return Client(self.url, add_token(store, Actor(_admin(store), "admin"), time.time())["token"])
        finally:
            store.close()

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def folder(self, name: str) -> RunDir:
        (found,) = (self.root / "runs").glob(f"*/{name}")
        return RunDir(found)


def _admin(store: Store) -> str:
    from cotuning_tune.service.tables import USER

    with store.reading() as connection:
        found = connection.execute(USER.select().where(USER.c.role == "admin"))
        return str(found.mappings().one()["name"])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path / "service")
    yield found
    for run in found.client.runs():
        found.client.cancel(run["id"]) if run["state"] not in ("done", "failed", "cancelled") else None
    found.client.close()
    found.end()


def until(condition: Callable[[], object], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_run_outlives_its_service_and_the_database(served: Served) -> None:
    run = served.client.submit(EXPERIMENT, "first")["id"]
    until(lambda: served.client.run(run)["state"] == "running")
    driver = holder(served.folder("first"))
    served.end(signal.SIGKILL)
    assert driver == holder(served.folder("first"))
    served.start()
    found = served.client.wait(run, 600)
    assert (found["state"], found["attempt"]) == ("done", 1)
    assert served.folder("first").read_incarnation() == 1
    served.end()
    for path in served.root.glob("service.db*"):
        path.unlink()
    served.start("--rebuild")
    served.client.close()
    served.client = served.sign_in()
    until(lambda: served.client.run(run)["state"] == "done")
    assert served.client.run(run)["experiment"].strip() == EXPERIMENT.strip()


def test_a_run_is_paused_resumed_extended_and_exported(served: Served) -> None:
    run = served.client.submit(EXPERIMENT, "second")["id"]
    until(lambda: (served.client.run(run)["summary"] or {}).get("done", 0) >= 1)
    served.client.pause(run)
    until(lambda: served.client.run(run)["state"] == "paused")
    assert holder(served.folder("second")) is None
    with pytest.raises(ServiceError, match="a model is exported once the run is done"):
        served.client.export(run, "safetensors")
    served.client.resume(run)
    found = served.client.wait(run, 600)
    assert (found["state"], found["attempt"]) == ("done", 2)
    served.client.extend(run, 4)
    served.client.extend(run, 4)
    found = served.client.wait(run, 600)
    assert (found["state"], found["attempt"]) == ("done", 3)
    assert found["summary"]["done"] == found["summary"]["budget"] >= 2 * (4 + 3)
    served.client.export(run, "safetensors")
    until(lambda: served.client.exports(run)[0]["state"] != "running")
    (made,) = served.client.exports(run)
    assert made["state"] == "done", made
    assert "model.safetensors" in made["files"]
    assert served.client.exported(run, "safetensors", "model.safetensors")[:8]
    log = "".join(served.client.log(run))
    assert "retrain: " in log


def test_three_people_share_two_cores(served: Served) -> None:
    """The second gets his core once the first one's trial has ended, the third waits and is told why."""
    names, clients = ("ann", "ben", "cid"), dict[str, Client]()
    long = EXPERIMENT.replace("epochs = 4", "epochs = 60").replace("trials = 3", "trials = 6")
    for name in names:
        store = Store(f"sqlite:///{served.root / 'service.db'}", active=False)
        add_user(store, Actor(_admin(store), "admin"), name, "member", time.time())
        clients[name] = Client(served.url, add_token(store, Actor(name, "member"), time.time())["token"])
        store.close()
    ran = {"ann": clients["ann"].submit(long, "one")["id"]}
    share = served.root / "runs" / "ann" / "one" / "share.json"
    until(lambda: served.client.run(ran["ann"])["summary"].get("running") == 2)
    ran["ben"] = clients["ben"].submit(long, "two")["id"]
    until(lambda: json.loads(share.read_text()) == {"trials": 1})
    ran["cid"] = clients["cid"].submit(EXPERIMENT, "three")["id"]
    until(lambda: "waits" in clients["cid"].run(ran["cid"]) and clients["cid"].run(ran["cid"])["waits"])
    assert clients["cid"].run(ran["cid"])["waits"].startswith("first in line: needs 1 of 2, 0 free")
    until(lambda: served.client.run(ran["ben"])["summary"].get("running") == 1)
    assert served.client.run(ran["ann"])["summary"]["running"] <= 1
    clients["ann"].cancel(ran["ann"])
    until(lambda: served.client.run(ran["cid"])["state"] == "running")
    clients["ben"].cancel(ran["ben"])
    assert clients["cid"].wait(ran["cid"], 600)["state"] == "done"
    for client in clients.values():
        client.close()


def test_a_killed_services_run_has_the_values_of_an_undisturbed_one(served: Served) -> None:
    kept = {}
    for name, kills in (("calm", 0), ("storm", 3)):
        run = served.client.submit(EXPERIMENT, name, most=1)["id"]
        for _ in range(kills):
            until(lambda run=run: served.client.run(run)["state"] == "running")
            served.end(signal.SIGKILL)
            served.start()
        assert served.client.wait(run, 900)["state"] == "done"
        folder = served.folder(name)
        kept[name] = {
            str(path.relative_to(folder.path)): json.loads(path.read_text())["value"]
            for path in sorted(folder.studies_folder.glob("*/trials/*/result.json"))
        }
    assert kept["calm"] == kept["storm"]
    assert len(kept["calm"]) >= 6
