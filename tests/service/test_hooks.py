"""Webhooks: signed, sent again until taken, never to an address that is not public."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cotuning_tune.service.asked import Submission
from cotuning_tune.service.hooks import PAUSES_S, Outbox, add_webhook, remove_webhook, target_of, webhooks
from cotuning_tune.service.people import add_token, tokens
from cotuning_tune.service.problems import Problem, Refused, Unknown
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.retention import EVENTS_S, sweep
from tests.service.world import HookedStore, World, people_in, runs_in, settings_in


class Receiver(HTTPServer):
    """Takes what is sent after it has refused ``refusals`` times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken, self.refusals, self.status = list[tuple[dict[str, object], str, bytes]](), 0, 500


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refusals:
            self.server.refusals -= 1
            self.send_response(self.server.status)
            self.send_header("Location", "http://127.0.0.1:1/")
        else:
            self.server.taken.append((json.loads(body), self.headers["X-Cotuning-Signature"], body))
            self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[tuple]:
    given, clock = settings_in(tmp_path), [1e9]
    store, world = HookedStore(given.database), World()
    people = people_in(store, ann="member", ben="member", eve="viewer")
    reconciler = Reconciler(store, world, lambda: clock[0])
    yield store, world, runs_in(store, given, lambda: clock[0]), reconciler, people, clock
    reconciler.stop()
    store.close()


def finish(here: tuple, name: str) -> str:
    """A run of Ann's that is done."""
    _, world, runs, reconciler, people, _ = here
    run = runs.submit(people["ann"], Submission(experiment="", name=name))["id"]
    for _ in range(8):
        reconciler.round()
        world.work(run)
    assert runs.get(people["ann"], run)["state"] == "done"
    return run


def test_the_end_of_a_run_is_sent_once_and_signed(here: tuple, receiver: Receiver) -> None:
    store, _, _, _, people, clock = here
    url = f"http://127.0.0.1:{receiver.server_port}/hook?a=1"
    made = add_webhook(store, people["ann"], url, ["done"], clock[0], local=True)
    add_webhook(store, people["ben"], url, [], clock[0], local=True)
    run = finish(here, "a")
    outbox = Outbox(store, lambda: clock[0], local=True)
    outbox.round()
    outbox.round()
    ((content, signature, body),) = receiver.taken
    assert (content["run"], content["state"]) == (run, "done")
    assert signature == "sha256=" + hmac.new(made["secret"].encode(), body, hashlib.sha256).hexdigest()
    (shown,) = webhooks(store, people["ann"])
    assert "secret" not in shown
    assert [one["state"] for one in shown["deliveries"]] == ["sent"]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_it_is_sent_again_with_growing_pauses_and_no_redirect_is_followed(
    here: tuple, receiver: Receiver, status: int
) -> None:
    store, _, _, _, people, clock = here
    receiver.refusals, receiver.status = 3, status
    add_webhook(store, people["ann"], f"http://127.0.0.1:{receiver.server_port}/", ["done"], clock[0], local=True)
    finish(here, "a")
    outbox = Outbox(store, lambda: clock[0], local=True)
    for pause in PAUSES_S[:3]:
        outbox.round()
        clock[0] += pause - 1
        outbox.round()
        assert not receiver.taken
        clock[0] += 1
    outbox.round()
    assert len(receiver.taken) == 1


def test_after_eight_tries_it_is_given_up(here: tuple, receiver: Receiver) -> None:
    store, _, _, _, people, clock = here
    receiver.refusals = 100
    add_webhook(store, people["ann"], f"http://127.0.0.1:{receiver.server_port}/", ["done"], clock[0], local=True)
    finish(here, "a")
    outbox = Outbox(store, lambda: clock[0], local=True)
    for _ in range(20):
        outbox.round()
        clock[0] += max(PAUSES_S)
    assert 100 - receiver.refusals == 8
    assert webhooks(store, people["ann"])[0]["deliveries"][0]["state"] == "given up"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8585/api/v1/runs",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://0x7f.1/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://user:secret@example.org/",
        "http://",
        "http://[",
        "http://a:99999/",
        "",
    ],
)
def test_other_addresses_are_refused(here: tuple, url: str) -> None:
    store, _, _, _, people, clock = here
    with pytest.raises(Problem):
        target_of(url)
    with pytest.raises(Problem):
        add_webhook(store, people["ann"], url, [], clock[0])


def test_webhooks_are_each_ones_own(here: tuple) -> None:
    store, _, _, _, people, clock = here
    made = add_webhook(store, people["ann"], "http://127.0.0.1:9/", [], clock[0], local=True)
    assert webhooks(store, people["ben"]) == []
    with pytest.raises(Unknown):
        remove_webhook(store, people["ben"], made["id"], clock[0])
    with pytest.raises(Refused):
        add_webhook(store, people["eve"], "http://127.0.0.1:9/", [], clock[0], local=True)
    with pytest.raises(Problem, match="there are: done"):
        add_webhook(store, people["ann"], "http://127.0.0.1:9/", ["born"], clock[0], local=True)
    remove_webhook(store, people["ann"], made["id"], clock[0])
    assert webhooks(store, people["ann"]) == []


def test_old_events_are_forgotten_but_for_what_is_still_to_be_sent(here: tuple, receiver: Receiver) -> None:
    store, _, runs, _, people, clock = here
    receiver.refusals = 1
    finish(here, "a")
    add_webhook(store, people["ann"], f"http://127.0.0.1:{receiver.server_port}/", ["done"], clock[0], local=True)
    finish(here, "b")
    Outbox(store, lambda: clock[0], local=True).round()
    add_token(store, people["ann"], clock[0], days=1)
    clock[0] += EVENTS_S + 1
    sweep(store, clock[0])
    kept, _ = runs.events(people["ann"], 0)
    assert [(one["kind"], one["content"]["state"]) for one in kept] == [("state", "done")]
    assert tokens(store, people["ann"]) == []
    Outbox(store, lambda: clock[0], local=True).round()
    sweep(store, clock[0])
    assert (len(receiver.taken), runs.events(people["ann"], 0)[0]) == (1, [])
