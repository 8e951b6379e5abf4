"""A service with a made-up engine, asked by the application itself or over a port of this machine."""

import functools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from cotuning_tune.service.exports import Exports
from cotuning_tune.service.http.app import make_app
from cotuning_tune.service.people import Actor, add_token
from cotuning_tune.service.whole import Service
from tests.service.world import World, people_in, runs_in, settings_in

ROLES = {"eve": "viewer", "ann": "member", "ben": "member", "olga": "operator", "root": "admin"}
EXPERIMENT = "[experiment]\ntasks = ['digits']\n"
DAY = 86400.0


class Served(Service):
    """A service without threads; ``tokens``: of each of its people."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        super().__init__(settings_in(folder), self.world)
        self.runs = runs_in(self.store, self.settings, time.time)
        self.exports = Exports(self.runs)
        self.people = people_in(self.store, **ROLES)
        self.tokens = {name: add_token(self.store, one, time.time())["token"] for name, one in self.people.items()}

    def board(self, actor: Actor, identities: Sequence[str]) -> str:
        actor.require("member")
        return f"http://127.0.0.1:1/{'-'.join(self.runs.get(actor, one)['id'] for one in identities)}/"

    def headers(self, name: str, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"} | {k.replace("_", "-"): v for k, v in more.items()}

    @functools.cached_property
    def app(self) -> FastAPI:
        return make_app(self)

    def client(self, name: str = "") -> TestClient:
        headers = self.headers(name) if name else {}
        return TestClient(
            self.app,
            base_url="http://localhost",
            headers=headers,
            follow_redirects=False,
            raise_server_exceptions=False,
        )

    def round(self) -> None:
        """The reconciler goes round, and every driver works for a moment."""
        self.reconciler.round()
        self.reconciler.beat = time.monotonic()
        for identity in list(self.world.lives):
            self.world.work(identity)


@contextmanager
def service_in(folder: Path) -> Iterator[Served]:
    """A service with a person of each role."""
    served = Served(folder)
    try:
        yield served
    finally:
        served.close()


@contextmanager
def listening(served: Served) -> Iterator[str]:
    """The address of the service, over a port of this machine."""
    config = uvicorn.Config(served.app, port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


def fill(folder: Path) -> None:
    """The folder of a run as a search leaves it: a study, a trial that has ended, one that runs, a report, a log."""
    study = folder / "studies" / "digits-100-fine_tune"
    config = {"specs": [{"task": "digits", "seed": 0}], "folder": str(folder), "threads": 1}
    for number, result in enumerate(
        ({"state": "COMPLETE", "value": 61.5, "epochs": 2, "seconds": 1.5, "reason": ""}, None)
    ):
        trial = study / "trials" / f"{number:04d}"
        trial.mkdir(parents=True)
        (trial / "config.json").write_text(json.dumps(config))
        (trial / "metrics.jsonl").write_text('{"epoch": 0, "val_score": 50.0, "val_loss": NaN}\n')
        if result:
            (trial / "result.json").write_text(json.dumps(result))
    (folder / "report").mkdir()
    (folder / "report" / "main.csv").write_text("method,accuracy\nfine_tune,61.5\n")
    (folder / "report" / "index.html").write_text("<p>the report</p>")
    (folder / "log").write_text("first line\nsecond line\n")


def wait_for(found, seconds: float = 30.0):
    """What ``found()`` gives, once that is something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError(f"nothing came in {seconds:g} s")
