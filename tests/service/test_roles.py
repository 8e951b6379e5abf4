"""Every route with every role: who may what, and that no route leads to another's private run, nor out of a folder."""

import itertools
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.routing import iter_route_contexts

from cotuning_tune.service.people import ROLES as ORDER
from tests.service.served import EXPERIMENT, ROLES, Served, fill, listening

STUDY = "digits-100-fine_tune"
LEAST = {  # role that a route takes; of a run those of another's public one
    "GET /api/v1/openapi.json": "viewer",
    "POST /api/v1/checks": "member",
    "POST /api/v1/runs": "member",
    "GET /api/v1/runs": "viewer",
    "GET /api/v1/runs/{run}": "viewer",
    "PATCH /api/v1/runs/{run}": "operator",
    "DELETE /api/v1/runs/{run}": "operator",
    "POST /api/v1/runs/{run}/pause": "operator",
    "POST /api/v1/runs/{run}/resume": "operator",
    "POST /api/v1/runs/{run}/cancel": "operator",
    "GET /api/v1/runs/{run}/studies": "viewer",
    "GET /api/v1/runs/{run}/studies/{study}": "viewer",
    "GET /api/v1/runs/{run}/studies/{study}/trials/{number}": "viewer",
    "GET /api/v1/runs/{run}/tables": "viewer",
    "GET /api/v1/runs/{run}/report": "viewer",
    "GET /api/v1/runs/{run}/report/{name}": "viewer",
    "GET /api/v1/runs/{run}/log": "viewer",
    "POST /api/v1/runs/{run}/exports": "operator",
    "GET /api/v1/runs/{run}/exports": "viewer",
    "GET /api/v1/runs/{run}/exports/{kind}/{name}": "viewer",
    "POST /api/v1/runs/{run}/tensorboard": "member",
    "POST /api/v1/comparisons/{comparison}/tensorboard": "member",
    "GET /api/v1/queue": "viewer",
    "GET /api/v1/backends": "viewer",
    "POST /api/v1/comparisons": "member",
    "GET /api/v1/comparisons": "viewer",
    "GET /api/v1/comparisons/{comparison}": "viewer",
    "GET /api/v1/me": "viewer",
    "GET /api/v1/tokens": "viewer",
    "POST /api/v1/tokens": "viewer",
    "DELETE /api/v1/tokens/{token}": "viewer",
    "GET /api/v1/users": "operator",
    "POST /api/v1/users": "admin",
    "PATCH /api/v1/users/{user}": "admin",
    "POST /api/v1/users/{user}/link": "admin",
    "GET /api/v1/webhooks": "viewer",
    "POST /api/v1/webhooks": "member",
    "DELETE /api/v1/webhooks/{webhook}": "viewer",
    "GET /api/v1/audit": "admin",
    "GET /metrics": "viewer",
    "GET /": "viewer",  # from here on pages
    "GET /runs/{identity}": "viewer",
    "POST /runs/{identity}/{verb}": "operator",
    "GET /runs/{identity}/log": "viewer",
    "GET /runs/{identity}/studies/{name}": "viewer",
    "GET /runs/{identity}/studies/{name}/trials/{number}": "viewer",
    "GET /compare": "viewer",
    "POST /compare/tensorboard": "member",
    "GET /submit": "member",
    "POST /submit/check": "member",
    "POST /submit": "member",
    "GET /queue": "viewer",
    "POST /sign-out": "viewer",
    "GET /me": "viewer",
    "POST /me/tokens": "viewer",
    "POST /me/tokens/{identity}/revoke": "viewer",
    "GET /admin": "operator",
    "GET /admin/audit": "admin",
    "POST /admin/users": "admin",
    "POST /admin/users/{name}": "admin",
    "POST /admin/users/{name}/link": "admin",
}
STREAMS = ["GET /api/v1/events"]  # test_events.py
OPEN = ["GET /livez", "GET /readyz", "GET /sign-in", "GET /sign-in/{link}", "POST /session", "GET /static/{name}"]
OF_A_RUN = [route for route in LEAST if "/runs/{" in route]


def ask(served: Served, who: str, route: str, run: str = "", comparison: str = ""):
    """A request of somebody's that could be answered."""
    method, path = route.split()
    values = {"run": run, "study": STUDY, "number": "0", "comparison": comparison or "none", "token": "none"}
    values |= {"user": "ben", "webhook": "none", "kind": "onnx", "verb": "pause"}
    values["identity"] = run if "/runs/" in path else "none"
    values["name"] = STUDY if "/studies/" in path else "ben" if "/users/" in path else "main.csv"
    bodies = {
        "/checks": {"experiment": EXPERIMENT},
        "/runs": {"experiment": EXPERIMENT, "name": f"by-{who}"},
        "/runs/{run}/exports": {"format": "onnx"},
        "/comparisons": {"runs": [run, run]},
        "/tokens": {},
        "/users": {"name": f"by-{who}"},
        "/webhooks": {"url": "https://example.org"},
    }
    other = {"weight": 2.0} if "/users" in path else {"priority": 0}
    form = {"experiment": EXPERIMENT, "name": f"page-{who}", "role": "viewer", "active": "on"}
    body = bodies.get(path.removeprefix("/api/v1"), other)
    more = {} if method not in ("PATCH", "POST") else {"json": body} if "/api/" in path else {"data": form}
    return served.client(who).request(method, path.format(**values), **more)


def made(served: Served, *, private: bool) -> str:
    """A run of ann's with a folder."""
    body = {"experiment": EXPERIMENT, "name": f"r{next(NUMBERS)}", "private": private}
    run = served.client("ann").post("/api/v1/runs", json=body).json()
    Path(run["folder"]).mkdir(parents=True)
    fill(Path(run["folder"]))
    return str(run["id"])


NUMBERS = itertools.count()


def test_every_route_says_who_may(served: Served) -> None:
    found = [
        f"{method} {one.path.replace(':path}', '}')}"
        for one in iter_route_contexts(served.app.routes)
        for method in one.route.methods
    ]
    assert sorted(found) == sorted([*LEAST, *STREAMS, *OPEN])


@pytest.mark.parametrize("route", LEAST)
def test_a_role_suffices_or_it_does_not(served: Served, route: str) -> None:
    assert ask(served, "", route, "none").status_code == 401
    run = made(served, private=False)
    asked = {"runs": [run, made(served, private=False)]}
    comparison = served.client("ann").post("/api/v1/comparisons", json=asked).json()["id"]
    for who, role in ROLES.items():
        if who == "ann" and route in OF_A_RUN:
            continue
        status = ask(served, who, route, run, comparison).status_code
        if ORDER.index(role) < ORDER.index(LEAST[route]):
            assert status == 403, (who, status)
        else:
            assert status in (200, 201, 202, 204, 303, 404, 409, 422), (who, status)


@pytest.mark.parametrize("route", OF_A_RUN)
def test_anothers_private_run_is_not_there(served: Served, route: str) -> None:
    run = made(served, private=True)
    served.boards_at = "http://localhost:1"
    before = served.runs.get(served.people["ann"], run)
    for who in ("eve", "ben"):
        hidden, absent = ask(served, who, route, run), ask(served, who, route, "0" * 12)
        assert hidden.status_code == absent.status_code
        assert hidden.status_code == (403 if who == "eve" and LEAST[route] == "member" else 404)
        assert hidden.json()["detail"] == absent.json()["detail"].replace("0" * 12, run)
    assert served.runs.get(served.people["ann"], run) == before
    assert (Path(before["folder"]) / "log").exists()


def test_a_private_run_shows_nowhere(served: Served) -> None:
    run = made(served, private=True)
    other = made(served, private=False)
    name = served.runs.get(served.people["ann"], run)["name"]
    ann = served.client("ann")
    comparison = ann.post("/api/v1/comparisons", json={"runs": [run, other]}).json()["id"]
    for who in ("eve", "ben"):
        client = served.client(who)
        assert client.delete(f"/api/v1/runs/{run}?purge=true").status_code == 404
        body = {"json": {"runs": [run, other]}}
        assert client.post("/api/v1/comparisons", **body).status_code in (403, 404)
        for route in (one for one in LEAST if one.startswith("GET")):
            text = ask(served, who, route, other, comparison).text
            assert run not in text, route
            assert f'"{name}"' not in text, route
    shown = [one["id"] for one in served.client("olga").get("/api/v1/runs").json()["runs"]]
    assert run in shown


def test_a_lesser_token_may_less_and_a_lost_role_counts(served: Served) -> None:
    client = served.client("olga")
    text = client.post("/api/v1/tokens", json={"role": "viewer"}).json()["token"]
    lesser = served.client("olga")
    lesser.headers["Authorization"] = f"Bearer {text}"
    assert lesser.get("/api/v1/users").status_code == 403
    assert lesser.post("/api/v1/tokens", json={"role": "operator"}).status_code == 403
    assert served.client("root").patch("/api/v1/users/olga", json={"role": "member"}).status_code == 200
    assert client.get("/api/v1/users").status_code == 403
    assert served.client("root").patch("/api/v1/users/olga", json={"active": False}).status_code == 200
    assert client.get("/api/v1/me").status_code == 401


def test_a_session_is_no_token_and_a_token_no_session(served: Served) -> None:
    browser = served.client()
    browser.post("/session", data={"token": served.tokens["ann"]})
    session = browser.cookies["cotuning_session"]
    assert served.client().get("/api/v1/me", headers={"Authorization": f"Bearer {session}"}).status_code == 401
    assert (
        served.client().get("/api/v1/me", headers={"Cookie": f"cotuning_session={served.tokens['ann']}"}).status_code
        == 401
    )


STEPS = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "....//", "%252e%252e%252f", "./../", "..%c0%af")
GOALS = ("log", "etc/passwd", "experiment.toml", "service.db", "studies/x/y")
OUT = [step * depth + goal for step in STEPS for goal, depth in itertools.product(GOALS, (1, 8))]


def test_no_name_leads_out_of_a_folder(served: Served) -> None:
    """A hundred paths, on every parameter of a path, as they are and quoted: each is refused."""
    assert len(set(OUT)) == 100
    run = made(served, private=False)
    folder = Path(served.runs.get(served.people["ann"], run)["folder"])
    (folder / "experiment.toml").write_text("secret")
    (folder / "report" / "linked.csv").symlink_to(folder / "experiment.toml")
    where = f"/api/v1/runs/{run}"
    patterns = [
        f"{where}/report/{{}}",
        f"{where}/studies/{{}}",
        f"{where}/studies/{{}}/trials/0",
        f"{where}/studies/{STUDY}/trials/{{}}",
        "/api/v1/runs/{}",
        "/api/v1/comparisons/{}",
    ]
    with listening(served) as url:
        connection = HTTPConnection(url.removeprefix("http://"))
        for path in [*OUT, "linked.csv", "/etc/passwd", "%2fetc%2fpasswd", ".", ".."]:
            for pattern, text in itertools.product(patterns, (path, quote(path, safe=""))):
                connection.request("GET", pattern.format(text), headers=served.headers("ann"))
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status in (404, 422), (pattern, text, content)
                assert b"secret" not in content
        connection.close()
