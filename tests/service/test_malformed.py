"""Requests that nobody means: each is answered, none with a fault of the service."""

import json
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.served import EXPERIMENT, Served, fill

NASTY = [
    "",
    "0",
    "-1",
    "1e999",
    "NaN",
    "null",
    "true",
    "é",
    "\x7f",
    "a" * 300,
    "../..",
    "%00",
    "{}",
    "' or 1=1 --",
    "\u2028",
    "9" * 30,
]
NUMBERS = [
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
]
TEXTS = st.one_of(st.sampled_from([*NASTY, "\0", "\ud800", "x" * 70_000]), st.text(max_size=20))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(NUMBERS), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
GOOD = {
    **{
        "experiment": EXPERIMENT,
        "name": "a",
        "backend": "here",
        "least": 1,
        "most": 2,
        "priority": 0,
        "private": False,
    },
    **{"labels": {"a": "b"}, "trials": 9, "runs": ["none", "other"], "label": "a", "role": "viewer", "days": 1.0},
    **{"weight": 1.0, "units": 2.0, "hours": None, "disk": None, "high": False, "active": True},
    **{"url": "https://example.org", "events": ["done"]},
}
QUERY = ["cursor", "limit", "owner", "state", "label", "text", "archived", "purge", "before", "after", "other"]
HEADERS = ["If-Match", "Idempotency-Key", "Range", "Last-Event-ID", "Content-Type", "Host", "Cookie", "Origin"]
HEADERS += ["Accept", "X-CSRF-Token", "Sec-Fetch-Site", "Transfer-Encoding", "Content-Length"]
MOST_S = 6.0


@st.composite
def requests(draw: st.DrawFn, routes: list[tuple[str, str]], known: dict[str, list[str]]) -> dict:
    """A request to one of the routes, right in most of its parts and wrong in some."""
    method, path = draw(st.sampled_from(routes))
    for name, values in known.items():
        value = draw(
            st.one_of(
                st.sampled_from(values), st.sampled_from(NASTY), st.text(st.characters(codec="utf-8"), max_size=20)
            )
        )
        path = path.replace(f"{{{name}:path}}", f"{{{name}}}").replace(f"{{{name}}}", quote(value, safe=""))
    if draw(st.integers(0, 9)) == 0:
        method = draw(st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "x"]))
    values = st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec="utf-8"), max_size=20))
    query = draw(st.dictionaries(st.sampled_from(QUERY), values, max_size=3))
    if path.endswith("/events"):
        query["run"] = "none"  # else it would be answered for as long as one listens
    bytes_ = st.one_of(
        st.sampled_from([v.encode() for v in NASTY if v.isprintable()]),
        st.text('abc01,=-*"/', max_size=20).map(str.encode),
    )
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), bytes_, max_size=2))
    return {
        "method": method,
        "url": path,
        "params": query,
        "content": draw(bodies() if "/api/" in path else forms()),
        "headers": headers,
    }


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """A form of a page, of which one or two fields are wrong."""
    good = {name: str(value) for name, value in GOOD.items() if isinstance(value, str | int | float)}
    wrong = draw(st.dictionaries(st.sampled_from(sorted(good)), st.sampled_from(NASTY), max_size=2))
    return urlencode({**good, **wrong}).encode() + draw(st.sampled_from([b"", b"&", b"&=", b"%ff", b"&a" * 2000]))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body: none, bytes, any JSON, or keys that are known with values of which one or two are wrong."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.binary(max_size=30))
    if kind == 1:
        return draw(
            st.sampled_from(
                [b"", b"[" * 50_000, b'{"a":' * 5000, b"1" * 5000, b'{"name": "a", "name": "b"}', b"\xef\xbb\xbf{}"]
            )
        )
    if kind == 2:
        return json.dumps(draw(JSON)).encode()
    body = {name: GOOD[name] for name in draw(st.sets(st.sampled_from(sorted(GOOD)), max_size=6))}
    wrong = draw(st.dictionaries(st.sampled_from(sorted(body) or ["name"]), JSON, max_size=2))
    return json.dumps(body | wrong).encode()


def storm(served: Served, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """So many requests, each answered as it should be."""
    served.reconciler.beat = float("inf")
    client = served.client("root")
    run = client.post("/api/v1/runs", json={"experiment": EXPERIMENT, "name": "there"}).json()
    Path(run["folder"]).mkdir(parents=True)
    fill(Path(run["folder"]))
    known = {
        "run": [run["id"]], "study": ["digits-100-fine_tune"], "number": ["0", "1"], "name": ["main.csv", "index.html"],
        "user": ["ann", "ben"], "token": ["none"], "webhook": ["none"], "comparison": ["none"], "link": ["a" * 43],
        "identity": [run["id"]], "verb": ["pause", "resume", "cancel", "extend", "archive"], "kind": ["onnx"],
    }  # fmt: skip
    routes = sorted(
        (method, one.path) for one in iter_route_contexts(served.app.routes) for method in one.route.methods
    )

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(requests(routes, known))
    def one(request: dict) -> None:
        caplog.clear()
        kind = "application/json" if "/api/" in request["url"] else "application/x-www-form-urlencoded"
        given = {"Authorization": f"Bearer {served.tokens['root']}", "Content-Type": kind}
        begun = time.monotonic()
        answer = client.request(**{**request, "headers": given | request["headers"]})
        assert time.monotonic() - begun < MOST_S
        assert answer.status_code < 500, (request, answer.text)
        assert "Traceback" not in answer.text + caplog.text
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []
        if answer.status_code >= 400 and request["method"] != "HEAD" and "/api/" in request["url"]:
            assert answer.headers["content-type"] == "application/problem+json"
            assert {"title", "status", "detail", "cure"} <= set(answer.json())

    one()


def test_malformed_requests(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    storm(served, 300, caplog)


@pytest.mark.storm
def test_ten_thousand_malformed_requests(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    storm(served, 10_000, caplog)
