"""The stream of events: what is replayed, what comes, and who is told."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from cotuning_tune.service import people
from cotuning_tune.service.http import events
from cotuning_tune.service.store import tell
from cotuning_tune.service.tables import EVENT, RUN
from tests.service.served import EXPERIMENT, Served, listening, wait_for

Told = tuple[int, str, dict]


@pytest.fixture
def url(served: Served) -> Iterator[str]:
    """The service's address."""
    with listening(served) as address:
        yield address


@contextmanager
def stream(
    served: Served, url: str, who: str = "ann", *, last: int | None = None, run: str = ""
) -> Iterator[Iterator[Told]]:
    """The events that somebody is sent: number (0: without), kind, content."""
    headers = served.headers(who) | ({} if last is None else {"Last-Event-ID": str(last)})
    params = {"run": run} if run else {}
    with httpx.stream("GET", f"{url}/api/v1/events", headers=headers, params=params, timeout=30) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines) == "retry: 3000"
        yield parsed(lines)


def parsed(lines: Iterator[str]) -> Iterator[Told]:
    """Events out of the lines of a stream."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            found[name] = value
        elif "event" in found:
            yield int(found.get("id", 0)), found["event"], json.loads(found["data"])
            found = {}


def submit(served: Served, name: str, who: str = "ann", **more: object) -> str:
    """A run of somebody's."""
    body = {"experiment": EXPERIMENT, "name": name, **more}
    return str(served.client(who).post("/api/v1/runs", json=body).json()["id"])


def test_what_was_missed_is_replayed_and_what_comes_follows(served: Served, url: str) -> None:
    runs = [submit(served, f"r{number}") for number in range(3)]
    with stream(served, url, last=1) as told:
        assert [(seq, kind, content["run"]) for seq, kind, content in (next(told), next(told))] == [
            (2, "submitted", runs[1]),
            (3, "submitted", runs[2]),
        ]
        served.runs.wish(served.people["ann"], runs[0], "pause")
        seq, kind, content = next(told)
        assert (seq, kind, content["run"], content["content"]) == (4, "pause", runs[0], {"by": "ann"})
        served.reconciler.round()
        after = [next(told) for _ in range(3)]
    assert [seq for seq, _, _ in after] == [5, 6, 7]
    assert {(kind, content["run"]) for _, kind, content in after} == {("state", run) for run in runs}


def test_without_a_number_only_what_comes_is_told(served: Served, url: str) -> None:
    submit(served, "before")
    with stream(served, url) as told:
        wait_for(lambda: served.app.state.hub.listeners)
        after = submit(served, "after")
        assert next(told)[2]["run"] == after


def test_of_one_run_only_its_own_are_told(served: Served, url: str) -> None:
    first, second = submit(served, "first"), submit(served, "second")
    with stream(served, url, last=0, run=second) as told:
        assert next(told)[2]["run"] == second
        served.runs.wish(served.people["ann"], first, "pause")
        served.runs.wish(served.people["ann"], second, "pause")
        assert (next(told)[1:], second) == (("pause", next_of(served, second)), second)
    answer = httpx.get(f"{url}/api/v1/events?run=nope", headers=served.headers("ann"))
    assert answer.status_code == 404


def next_of(served: Served, run: str) -> dict:
    """The newest event of a run."""
    return served.runs.events(served.people["ann"], 0, run=run)[0][-1]


@pytest.mark.parametrize("last", [1, 999])
def test_what_is_not_kept_any_more_is_a_reset(served: Served, url: str, last: int) -> None:
    for number in range(6):
        submit(served, f"r{number}")
    with served.store.writing() as connection:
        connection.execute(EVENT.delete().where(EVENT.c.seq < 4))
    with stream(served, url, last=last) as told:
        assert next(told)[:2] == (6, "reset")
        submit(served, "after")
        assert next(told)[:2] == (7, "submitted")
    with stream(served, url, last=3) as told:
        assert next(told)[:2] == (4, "submitted")


def test_private_runs_are_told_to_their_owner_and_operators(served: Served, url: str) -> None:
    with stream(served, url, "ben") as ben, stream(served, url, "olga") as olga:
        wait_for(lambda: len(served.app.state.hub.listeners) == 2)
        hidden, shown = submit(served, "hidden", private=True), submit(served, "shown")
        assert next(ben)[2]["run"] == shown
        assert [next(olga)[2]["run"] for _ in range(2)] == [hidden, shown]
    with stream(served, url, "eve", last=0) as eve:
        assert next(eve)[2]["run"] == shown
    assert httpx.get(f"{url}/api/v1/events?run={hidden}", headers=served.headers("eve")).status_code == 404


def test_progress_is_told_once_and_not_replayed(served: Served, url: str) -> None:
    run = submit(served, "a")
    served.reconciler.round()

    def summary(done: int) -> None:
        with served.store.writing() as connection:
            values = {"summary": {"done": done, "budget": 9}, "changed": time.time() + 5}
            connection.execute(RUN.update().where(RUN.c.id == run).values(**values))

    with stream(served, url) as told:
        wait_for(lambda: served.app.state.hub.listeners)
        for done in (1, 2):
            summary(done)
            seq, kind, content = next(told)
            assert (seq, kind, content["content"]["summary"]["done"]) == (0, "progress", done)


def test_a_stream_ends_with_its_token(served: Served, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RECHECK_S", 0.0)
    monkeypatch.setattr(events, "QUIET_S", 0.05)
    with stream(served, url) as told:
        wait_for(lambda: served.app.state.hub.listeners)
        served.people["ann"] = people.actor_of(served.store, served.tokens["ann"], time.time())
        people.revoke(served.store, served.people["ann"], served.people["ann"].token, time.time())
        assert [kind for _, kind, _ in told] == ["signed out"]
    wait_for(lambda: not served.app.state.hub.listeners)


def test_who_does_not_read_is_dropped(served: Served, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_S", 0.2)
    run = submit(served, "a")
    host, _, port = url.removeprefix("http://").partition(":")
    hub = served.app.state.hub
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        lines = ["GET /api/v1/events HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {served.tokens['ann']}"]
        slow.sendall("\r\n".join([*lines, "", ""]).encode())
        wait_for(lambda: hub.listeners)
        with served.store.writing() as connection:
            for _ in range(90):
                tell(connection, 0.0, run, "noise", {"text": "x" * 100_000})
        wait_for(lambda: not hub.listeners)


def test_what_waits_for_a_listener_is_bounded() -> None:
    listener = events.Listener()
    for number in range(events.MOST_WAITING):
        listener.tell({"seq": number})
    assert not listener.lost
    listener.tell({"seq": 0})
    assert (listener.lost, len(listener.waiting)) == (True, events.MOST_WAITING)
