"""The API: what each verb answers, once and again, and what it refuses."""

import json
from pathlib import Path

import pytest

from cotuning_tune.service.http import guard
from cotuning_tune.service.http.guard import COOKIE, MOST_BODY
from tests.service.served import EXPERIMENT, Served, fill

API = "/api/v1"
BODY = {"experiment": EXPERIMENT, "name": "a"}


def submit(served: Served, who: str = "ann", **more: object) -> dict:
    """A run of somebody's."""
    answer = served.client(who).post(f"{API}/runs", json=BODY | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def refused(answer, status: int) -> dict:
    """The problem of an answer, as RFC 9457 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    assert "\n" not in found["detail"]
    assert "cure" in found
    return found


def test_a_run_from_submission_to_purge(served: Served) -> None:
    client = served.client("ann")
    run = submit(served, labels={"kind": "first"})
    where = f"{API}/runs/{run['id']}"
    served.round()
    assert client.get(where).json()["state"] == "starting"
    for verb in ("pause", "pause"):
        answer = client.post(f"{where}/{verb}")
        assert (answer.status_code, answer.json()["wanted"]) == (202, "pause")
    served.round()
    served.round()
    assert client.get(where).json()["state"] == "paused"
    assert refused(client.delete(where), 409)["cure"] == "cancel it first"
    client.post(f"{where}/resume")
    for _ in range(12):
        served.round()
    done = client.get(where).json()
    assert (done["state"], len(done["attempts"])) == ("done", 2)
    folder = Path(run["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    assert client.delete(where).json()["archived"]
    assert client.get(f"{API}/runs").json()["runs"] == []
    assert [one["id"] for one in client.get(f"{API}/runs?archived=true").json()["runs"]] == [run["id"]]
    assert folder.exists()
    assert refused(client.post(f"{where}/resume"), 409)["cure"] == "submit another one like it"
    for _ in range(2):
        client.delete(f"{where}?purge=true")
    assert not folder.exists()
    assert submit(served, labels={})["folder"] == run["folder"]  # the name is free


def test_a_change_is_meant_for_a_version(served: Served) -> None:
    client, run = served.client("ann"), submit(served)
    where = f"{API}/runs/{run['id']}"
    tag = client.get(where).headers["etag"]
    first = client.patch(where, json={"trials": 8}, headers={"If-Match": tag})
    assert (first.status_code, first.json()["trials"]) == (200, 8)
    assert first.headers["etag"] != tag
    served.round()  # its progress is not what the tag is about
    assert client.get(where).headers["etag"] == first.headers["etag"]
    assert refused(client.patch(where, json={"trials": 9}, headers={"If-Match": tag}), 412)["cure"] == "read it again"
    assert client.get(where).json()["trials"] == 8
    assert client.patch(where, json={"trials": 8}).headers["etag"] == first.headers["etag"]  # absolute: nothing to do
    refused(client.patch(where, json={"trials": 9}, headers={"If-Match": "no tag"}), 400)
    assert refused(client.patch(where, json={"trials": 7}), 422)["key"] == "trials"


@pytest.mark.parametrize(
    ("path", "body", "secret"),
    [
        ("/runs", BODY, ""),
        ("/tokens", {"label": "script"}, "token"),
        ("/users", {"name": "new", "role": "member"}, ""),
        ("/webhooks", {"url": "https://example.org/hook"}, "secret"),
    ],
)
def test_a_creating_request_counts_once(served: Served, path: str, body: dict, secret: str) -> None:
    client = served.client("root")
    before = len(client.get(API + path).json()[path[1:]])
    answers = [client.post(API + path, json=body, headers={"Idempotency-Key": "k1"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    first, second, third = (answer.json() for answer in answers)
    assert second == third == first | ({secret: None} if secret else {})
    if secret:
        assert len(first[secret]) > 40
        assert (
            first[secret].encode() not in Path(served.settings.root / "service.db-wal").read_bytes()
            or path != "/tokens"
        )
    assert len(client.get(API + path).json()[path[1:]]) == before + 1
    other = (
        body | {"name": "other"}
        if "name" in body
        else {**body, **({"label": "x"} if secret == "token" else {"events": ["done"]})}
    )
    refused(client.post(API + path, json=other, headers={"Idempotency-Key": "k1"}), 422)
    refused(client.post(API + path, json=body, headers={"Idempotency-Key": "x" * 201}), 422)


def test_comparisons_count_once_and_say_what_differs(served: Served) -> None:
    client = served.client("ann")
    runs = [submit(served, name=f"r{n}", experiment=f"[train]\nepochs = {n}\nlr = 0.1\n")["id"] for n in (1, 2)]
    ask = {"json": {"runs": runs}, "headers": {"Idempotency-Key": "c"}}
    made = [client.post(f"{API}/comparisons", **ask).json() for _ in range(2)]
    assert made[0] == made[1]
    found = client.get(f"{API}/comparisons/{made[0]['id']}").json()
    assert found["differing"] == {"train.epochs": [1, 2]}
    assert [run["name"] for run in found["runs"]] == ["r1", "r2"]
    refused(client.post(f"{API}/comparisons", json={"runs": runs[:1]}), 422)
    refused(client.post(f"{API}/comparisons", json={"runs": [runs[0], "nope"]}), 404)
    served.runs.patch(served.people["ann"], runs[0], private=True)
    refused(served.client("ben").get(f"{API}/comparisons/{made[0]['id']}"), 404)


def test_pages_of_a_list(served: Served) -> None:
    for number in range(7):
        submit(served, name=f"r{number}", labels={"odd": str(number % 2)})
    client, cursor, names = served.client("ben"), "", []
    for _ in range(4):
        page = client.get(f"{API}/runs", params={"limit": 2, "cursor": cursor}).json()
        names += [run["name"] for run in page["runs"]]
        cursor = page["next"]
    assert (names, cursor) == ([f"r{number}" for number in reversed(range(7))], "")
    assert "experiment" not in page["runs"][0]
    labelled = client.get(f"{API}/runs", params={"label": "odd=1", "limit": 200}).json()["runs"]
    assert [run["name"] for run in labelled] == ["r5", "r3", "r1"]
    for wrong in ({"limit": 201}, {"limit": 0}, {"cursor": "x"}, {"cursor": "é"}):
        refused(client.get(f"{API}/runs", params=wrong), 422)


def test_what_a_folder_shows(served: Served) -> None:
    client, run = served.client("ann"), submit(served)
    where = f"{API}/runs/{run['id']}"
    assert client.get(f"{where}/studies").json() == {"studies": []}
    refused(client.get(f"{where}/report/report.md"), 404)
    Path(run["folder"]).mkdir(parents=True)
    fill(Path(run["folder"]))
    before = {path: path.stat().st_mtime_ns for path in Path(run["folder"]).rglob("*")}
    [study] = client.get(f"{where}/studies").json()["studies"]
    assert (study["trials"], study["best_val_score"]) == ({"COMPLETE": 1, "RUNNING": 1}, 61.5)
    trials = client.get(f"{where}/studies/{study['study']}").json()["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "RUNNING"]
    trial = client.get(f"{where}/studies/{study['study']}/trials/0").json()
    assert trial["history"] == [{"epoch": 0, "val_score": 50.0, "val_loss": None}]
    assert "folder" not in trial["config"]
    tables = client.get(f"{where}/tables").json()["tables"]
    assert [table["name"] for table in tables] == ["status", "main"]
    assert tables[1]["rows"] == [["fine_tune", "61.5"]]
    assert client.get(f"{where}/report").json() == {"files": ["index.html", "main.csv"]}
    page = client.get(f"{where}/report/index.html")
    assert page.text == "<p>the report</p>"
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert {path: path.stat().st_mtime_ns for path in Path(run["folder"]).rglob("*")} == before


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        ("", 200, "first line\nsecond line\n"),
        ("bytes=0-4", 206, "first"),
        ("bytes=6-", 206, "line\nsecond line\n"),
        ("bytes=-5", 206, "line\n"),
        ("bytes=20-900", 206, "ne\n"),
        ("bytes=5-2", 200, "first line\nsecond line\n"),
        ("lines=1-2", 200, "first line\nsecond line\n"),
        ("bytes=23-", 416, ""),
    ],
)
def test_a_log_by_range(served: Served, asked: str, status: int, text: str) -> None:
    client, run = served.client("ann"), submit(served)
    Path(run["folder"]).mkdir(parents=True)
    fill(Path(run["folder"]))
    answer = client.get(f"{API}/runs/{run['id']}/log", headers={"Range": asked} if asked else {})
    assert answer.status_code == status
    if status != 416:
        assert answer.text == text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"experiment": "", "name": "a"', 400),
        (b'{"experiment": "", "name": "a", "least": NaN}', 400),
        (b'{"experiment": "", "name": "a", "least": Infinity}', 400),
        (b'{"experiment": "\\u0000", "name": "a"}', 400),
        (b'{"experiment": "\\ud800", "name": "a"}', 400),
        (b'{"experiment": "", "name": "a", "labels": {"\\udfff": ""}}', 400),
        (b'{"experiment": "\xff", "name": "a"}', 400),
        (b"[" * 60_000, 400),
        (b'{"least": ' + b"9" * 5000 + b"}", 400),
        (b'{"experiment": "", "name": "a", "least": ' + b"9" * 400 + b"}", 422),
        (b'{"experiment": "", "name": "a", "least": "1"}', 422),
        (b'{"experiment": "", "name": "a", "unknown": 1}', 422),
        (b'{"experiment": "", "name": "../a"}', 422),
        (b'{"experiment": "", "name": "' + b"a" * 101 + b'"}', 422),
        (b"[]", 422),
        (b"", 422),
        (b'{"experiment": "' + b"x" * (64 * 1024 + 1) + b'", "name": "a"}', 413),
        (b" " * (MOST_BODY + 1), 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_that_cannot_be_taken(served: Served, body: bytes, status: int) -> None:
    answer = served.client("ann").post(f"{API}/runs", content=body, headers={"Content-Type": "application/json"})
    refused(answer, status)


def test_a_body_without_a_length_is_bounded(served: Served) -> None:
    pieces = (b" " * 65536 for _ in range(1000))
    refused(served.client("ann").post(f"{API}/runs", content=pieces), 413)


def test_what_is_not_there(served: Served) -> None:
    client = served.client("ann")
    refused(client.get(f"{API}/nothing"), 404)
    refused(client.get("/nothing"), 404)
    answer = client.put(f"{API}/runs")
    refused(answer, 405)
    assert answer.headers["allow"]
    refused(client.get(f"{API}/runs/%00"), 400)
    refused(client.get(f"{API}/runs?text=%00"), 400)
    refused(client.get(f"{API}/runs", headers={"Host": "evil.example.org"}), 421)


def test_a_fault_says_nothing_of_itself(served: Served, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(served.runs, "queue", fault)
    answer = served.client("ann").get(f"{API}/queue")
    refused(answer, 500)
    assert "secret" not in answer.text
    assert "ZeroDivisionError: the secret" in caplog.text


def test_storage_that_is_away_is_not_ready(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OSError(116, "stale file handle")

    monkeypatch.setattr("cotuning_tune.service.shown.studies", away)
    found = refused(served.client("ann").get(f"{API}/runs/{submit(served)['id']}/studies"), 503)
    assert found["cure"] == "try again later"


def test_health(served: Served) -> None:
    client = served.client()
    assert client.get("/livez").json() == {"live": True}
    refused(client.get("/readyz"), 503)  # the reconciler has not gone round yet
    served.round()
    assert client.get("/readyz").json() == {"ready": True}
    refused(client.get("/metrics"), 401)
    submit(served)
    assert 'cotuning_tune_service_runs{state="queued"} 1.0' in served.client("eve").get("/metrics").text


def test_a_link_opens_a_session_once(served: Served) -> None:
    admin, browser = served.client("root"), served.client()
    path = admin.post(f"{API}/users/ann/link").json()["path"]
    for _ in range(2):  # looking at it does not use it up
        page = browser.get(path)
        assert '<form method="post" action="/session">' in page.text
    form = {"link": path.rpartition("/")[2]}
    answer = browser.post("/session", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Max-Age=43200"))
    assert "Secure" not in cookie
    assert browser.get(f"{API}/me").json()["name"] == "ann"
    refused(served.client().post("/session", data=form), 401)
    refused(browser.get("/sign-in/<script>"), 401)
    assert (
        "Secure"
        in served.client().post("https://localhost/session", data={"token": served.tokens["ann"]}).headers["set-cookie"]
    )


def test_a_session_changes_nothing_for_other_pages(served: Served) -> None:
    browser = served.client()
    browser.post("/session", data={"token": served.tokens["ann"]})
    text = guard._csrf(browser.cookies[COOKIE])
    good = {"X-CSRF-Token": text}
    for headers in (
        {},
        {"X-CSRF-Token": "x"},
        good | {"Origin": "https://evil.example.org"},
        good | {"Origin": "null"},
    ):
        refused(browser.post(f"{API}/runs", json=BODY, headers=headers), 403)
    refused(browser.post(f"{API}/runs", json=BODY, headers=good | {"Sec-Fetch-Site": "cross-site"}), 403)
    refused(browser.post("/session", data={"token": "x"}, headers={"Origin": "https://evil.example.org"}), 403)
    assert browser.post(f"{API}/runs", json=BODY, headers=good | {"Origin": "http://localhost"}).status_code == 201
    assert browser.post("/sign-out", data={"csrf_token": text}).status_code == 303
    browser.cookies.set(COOKIE, "x")
    refused(browser.get(f"{API}/me"), 401)


def test_every_answer_tells_browsers_what_they_may(served: Served) -> None:
    for path in ("/livez", f"{API}/me", "/nothing", "/sign-in/" + "a" * 43):
        headers = served.client().get(path).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_openapi_is_for_those_who_are_signed_in(served: Served) -> None:
    refused(served.client().get(f"{API}/openapi.json"), 401)
    found = served.client("eve").get(f"{API}/openapi.json").json()
    assert {f"{API}/runs", f"{API}/events", "/livez"} <= set(found["paths"])
    json.dumps(found, allow_nan=False)
