"""The service's pages, as somebody without JavaScript uses them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotuning_tune.service.http.guard import CSRF_FIELD
from cotuning_tune.service.pages.submit import EXAMPLE
from cotuning_tune.service.people import link
from cotuning_tune.service.tables import AUDIT, EVENT, RUN, TOKEN, USER
from tests.service.household import EXPERIMENT, STUDY, Page, browser, check, fill, send, signed_in, submitted
from tests.service.served import Served, service_in

NASTY = "<script>alert('a\"b')</script> \u202egnp.exe & " + "x" * 60


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with service_in(tmp_path) as found:
        found.runs.check = check
        yield found


def addresses(run: str) -> list[str]:
    """Every page, with a run that has a folder."""
    of_run = ["", "/log", f"/studies/{STUDY}", f"/studies/{STUDY}/trials/3"]
    plain = ["/", "/?archived=1", "/?text=nothing", "/queue", "/compare", f"/compare?run={run}", "/me"]
    signing, changing = ["/sign-in", f"/sign-in/{'a' * 43}"], ["/submit", "/submit?example=1", f"/submit?from={run}"]
    return [*plain, *signing, *changing, "/admin", "/admin/audit?check=1", *(f"/runs/{run}{end}" for end in of_run)]


def refused(name: str, address: str) -> bool:
    """Whether somebody's role does not suffice for a page."""
    needs = {"/submit": "member", "/admin/audit": "admin", "/admin": "operator"}
    role = {"eve": 0, "ann": 1, "olga": 2, "root": 3}[name]
    least = {"member": 1, "operator": 2, "admin": 3}.get(needs.get(address.partition("?")[0], ""), 0)
    return role < least


@pytest.mark.parametrize("name", ["eve", "ann", "olga", "root"])
def test_each_page_is_whole_for_each_role(served: Served, name: str) -> None:
    """Well formed, each id once, each field with a label, no script or style of its own; or refused, readably."""
    run = submitted(served, "ann", "birds-1")
    fill(run)
    submitted(served, "ben", "plan-9", private=True)
    served.round()
    served.round()
    client = signed_in(served, name)
    for address in addresses(run["id"]):
        answer = client.get(address)
        assert answer.status_code == (403 if refused(name, address) else 200), address
        page = Page(answer.text)
        assert page.faults == [], address
        for tag, values in page.elements:
            assert tag != "style"
            assert not [key for key in values if key == "style" or key.startswith("on")]
            assert tag != "script" or values["src"].startswith("/static/")


def test_what_a_page_needs_is_there_and_no_other_host_is_asked(served: Served) -> None:
    """Every style and script of a page is served, pinned by the version, and may be kept by the browser."""
    client = signed_in(served, "ann")
    text = client.get("/").text
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)
    assert len(found) == 4
    for address in found:
        answer = client.get(address)
        assert answer.status_code == 200
        assert "max-age" in answer.headers["cache-control"]
    assert "//" not in text.replace("://127", "").split("<body>")[1]
    assert client.get("/static/nothing").status_code == 404


def test_what_people_and_runs_have_written_is_escaped_everywhere(served: Served) -> None:
    """Names, labels, reasons, values, logs and lines of the audit: none of them becomes an element."""
    run = submitted(served, "ann", "birds-1", labels={NASTY[:90]: NASTY[:90]})
    fill(run, study=STUDY)
    trial = Path(run["folder"]) / "studies" / STUDY / "trials"
    for path in trial.glob("*/*.json"):
        text = path.read_text().replace('"optim/lr"', '"<b>lr</b>"').replace('"frozen"', '"<i>frozen</i>"')
        path.write_text(text.replace("the loss is not finite", "<script>reason</script>"))
    (Path(run["folder"]) / "log").write_text(NASTY)
    with served.store.writing() as connection:
        values = {"reason": NASTY, "waits": NASTY, "name": NASTY, "backend": "here"}
        connection.execute(RUN.update().values(**values, experiment=f"[experiment]\nx = '''{NASTY}'''\n"))
        connection.execute(EVENT.update().values(content={"state": NASTY, "reason": NASTY, "by": NASTY}))
        connection.execute(TOKEN.update().values(label=NASTY))
        connection.execute(AUDIT.update().values(actor=NASTY[:64], content={NASTY: NASTY}))
    other = submitted(served, "ann", "birds-2")
    client = signed_in(served, "root")
    seen = ""
    for address in [*addresses(run["id"]), f"/compare?run={run['id']}&run={other['id']}"]:
        answer = client.get(address)
        assert answer.status_code == 200, address
        page = Page(answer.text)
        assert page.faults == [], address
        assert {values.get("src", "").partition("?")[0] for tag, values in page.elements if tag == "script"} == {
            "/static/htmx.min.js",
            "/static/pages.js",
        }, address
        assert not {"b", "i"} & {tag for tag, _ in page.elements}, address
        seen += answer.text
    assert seen.count("&lt;script&gt;alert(") > 20
    assert "&lt;b&gt;lr&lt;/b&gt;" in seen
    assert "&lt;script&gt;reason" in seen
    wrong = client.get(f"/runs/{'<script>'}").text
    assert "<script>" not in wrong.split("<main")[1]


def test_a_link_signs_in_once_by_its_button_and_signing_out_ends_it(served: Served) -> None:
    """Looking at a link uses nothing up; without a session each page is the one to sign in on."""
    client, text = browser(served), link(served.store, "ann", served.now())
    assert client.get("/").status_code == 401
    assert 'name="token"' in client.get("/queue").text
    for _ in range(2):
        assert "signs you in once" in client.get(f"/sign-in/{text}").text
    assert send(client, f"/sign-in/{text}", "/session", link=text).headers["location"] == "/"
    assert client.get("/").status_code == 200
    again = browser(served).post("/session", data={"link": text})
    assert again.status_code == 401
    assert "What to do: " in again.text
    assert send(client, "/", "/sign-out").status_code == 303
    assert client.get("/").status_code == 401


def test_every_refusal_is_a_readable_page_with_its_cure_for_a_browser_alone(served: Served) -> None:
    """Whoever refuses: a route, the guard, or nobody at that address; a script gets RFC 9457."""
    client = signed_in(served, "ann")
    cases = {
        "/nothing": 404,
        "/runs/none": 404,
        "/runs/none/studies/x/trials/y": 422,
        "/?cursor=%21": 422,
        "/?text=%00": 400,
    }
    for address, status in cases.items():
        answer = client.get(address)
        assert answer.status_code == status, address
        assert 'role="alert"' in answer.text
        assert Page(answer.text).faults == []
        answer = client.get(address, headers={"Accept": "*/*"})
        assert answer.headers["content-type"] == "application/problem+json"
    assert "hosts" in client.get("/", headers={"Host": "evil.example.org"}).text
    big = client.post("/submit", data={"experiment": "x" * 200_000})
    assert (big.status_code, "files of their own" in big.text) == (413, True)


def test_a_form_without_its_sessions_text_changes_nothing(served: Served) -> None:
    """Another site's page cannot pause a run in one's name."""
    run = submitted(served, "ann", "birds-1")
    client = signed_in(served, "ann")
    assert client.post(f"/runs/{run['id']}/pause").status_code == 403
    assert client.post(f"/runs/{run['id']}/pause", data={CSRF_FIELD: "guessed"}).status_code == 403
    assert served.runs.get(served.people["ann"], run["id"])["wanted"] == "run"


def test_a_run_is_checked_submitted_and_submitted_only_once(served: Served) -> None:
    """A mistake is shown at its line with its cure; the same page sent twice is one run."""
    client = signed_in(served, "ann")
    bad = EXPERIMENT + "wrong = 1\n"
    checked = send(client, "/submit", "/submit", experiment=bad, name="birds-1")
    assert checked.status_code == 422
    assert '<li value="5" class="wrong"><code><bdi>wrong = 1</bdi></code></li>' in checked.text
    assert "What to do: <bdi>trials is possible</bdi>" in checked.text
    assert 'value="birds-1"' in checked.text
    token = client.get("/me").text.split(f'name="{CSRF_FIELD}" value="')[1].split('"')[0]
    looked = client.post("/submit/check", data={CSRF_FIELD: token, "experiment": EXPERIMENT, "labels": "a=<b>"})
    assert "It can be run." in looked.text
    assert "10 trainings" in looked.text
    assert served.runs.listed(served.people["ann"])["runs"] == []
    sent = {"experiment": EXPERIMENT.replace("\n", "\r\n"), "name": "birds-1", "labels": "paper=fig. 2", "key": "k1"}
    first = send(client, "/submit", "/submit", **sent, least="1", most="2", priority="0", private="on")
    assert first.status_code == 303
    second = send(client, "/submit", "/submit", **sent, least="1", most="2", priority="0", private="on")
    assert second.headers["location"] == first.headers["location"]
    (run,) = served.runs.listed(served.people["ann"])["runs"]
    assert (run["labels"], run["most"], run["private"]) == ({"paper": "fig. 2"}, 2, True)
    assert served.runs.get(served.people["ann"], run["id"])["experiment"] == EXPERIMENT
    taken = send(client, "/submit", "/submit", experiment=EXPERIMENT, name="birds-1")
    assert taken.status_code == 409
    assert "choose another name" in taken.text


def test_a_run_is_paused_resumed_extended_changed_cancelled_and_archived(served: Served) -> None:
    """Each by its button, which leads back to the run; a button that can do nothing is not there."""
    run = submitted(served, "ann", "birds-1")
    page = f"/runs/{run['id']}"
    client = signed_in(served, "ann")

    def row() -> dict[str, object]:
        return served.runs.get(served.people["ann"], run["id"])

    served.round()
    served.round()
    assert send(client, page, f"{page}/pause").headers["location"] == page
    served.round()
    served.round()
    assert row()["state"] == "paused"
    assert f'action="{page}/pause"' not in client.get(page).text
    assert send(client, page, f"{page}/resume").status_code == 303
    assert row()["wanted"] == "run"
    assert send(client, page, f"{page}/extend", trials="2").status_code == 422
    for _ in range(2):
        assert send(client, page, f"{page}/extend", trials="32").status_code == 303
    assert row()["trials"] == 32
    old = client.get(page).text
    tag = re.search(r'name="tag" value="(\w+)"', old)
    assert tag
    change = {"least": "1", "most": "3", "priority": "-1", "tag": tag[1]}
    assert send(client, page, f"{page}/change", **change).status_code == 303
    assert (row()["most"], row()["priority"]) == (3, -1)
    stale = send(client, page, f"{page}/change", **change)
    assert stale.status_code == 412
    assert "read it again" in stale.text
    assert send(client, page, f"{page}/cancel").status_code == 303
    for _ in range(3):
        served.round()
    assert row()["state"] == "cancelled"
    assert send(client, page, f"{page}/archive").status_code == 303
    assert "birds-1" not in client.get("/").text
    assert "birds-1" in client.get("/?archived=1").text


def test_others_see_a_run_without_its_buttons_and_a_private_one_not_at_all(served: Served) -> None:
    """By its address neither; the queue says that it is there, and nothing of it."""
    run, hidden = submitted(served, "ann", "birds-1"), submitted(served, "ann", "plan-9", private=True)
    for name in ("eve", "ben"):
        client = signed_in(served, name)
        text = client.get(f"/runs/{run['id']}").text
        assert f"/runs/{run['id']}/pause" not in text
        token = client.get("/me").text.split(f'name="{CSRF_FIELD}" value="')[1].split('"')[0]
        assert client.post(f"/runs/{run['id']}/pause", data={CSRF_FIELD: token}).status_code == 403
        for end in ("", "/log", f"/studies/{STUDY}"):
            assert client.get(f"/runs/{hidden['id']}{end}").status_code == 404
        assert client.get(f"/compare?run={hidden['id']}").status_code == 404
        assert "plan-9" not in client.get("/").text
        queue = client.get("/queue").text
        assert "plan-9" not in queue
        assert "(private)" in queue
    assert "plan-9" in signed_in(served, "olga").get("/").text


def test_a_runs_page_tells_its_studies_trials_and_what_is_live(served: Served) -> None:
    """Counts, best score with its unit, running trials; it asks for itself until it has ended."""
    run = submitted(served, "ann", "birds-1")
    fill(run)
    served.round()
    served.round()
    summary = {"budget": 8, "done": 3, "running": 1, "failed": 1, "trial_hours": 0.5, "best": {STUDY: 73.0}}
    with served.store.writing() as connection:
        connection.execute(RUN.update().values(summary=summary))
    client = signed_in(served, "ann")
    text = client.get(f"/runs/{run['id']}").text
    assert 'hx-trigger="every 2s"' in text
    for told in ("3 of 8 trials", "73.00 %", "trial 4</a>: 5 epoch(s) in 12 s, 74.00 %", "50 min", "attempt"):
        assert told in text, told
    study = client.get(f"/runs/{run['id']}/studies/{STUDY}").text
    for told in ("the loss is not finite", "0.009", "optim/lr", "<svg", "stopped early", "73.00 %"):
        assert told in study, told
    trial = client.get(f"/runs/{run['id']}/studies/{STUDY}/trials/3").text
    assert trial.count("<circle") == 5
    assert "second line" in client.get(f"/runs/{run['id']}/log").text
    with served.store.writing() as connection:
        connection.execute(RUN.update().values(state="done", summary=summary | {"done": 8}))
    assert "hx-trigger" not in client.get(f"/runs/{run['id']}").text
    assert client.get(f"/runs/{run['id']}/studies/..%2f..").status_code == 404
    assert client.get(f"/runs/{run['id']}/studies/{STUDY}/trials/77").status_code == 404


def test_a_folder_that_is_damaged_or_away_takes_nothing_but_its_own_part(served: Served) -> None:
    """The run's page says so, and still has its buttons."""
    run = submitted(served, "ann", "birds-1")
    fill(run)
    result = Path(run["folder"]) / "studies" / STUDY / "trials" / "0000" / "result.json"
    client = signed_in(served, "ann")
    for content in ("{", "[1, 2]", '{"state": 3}', '"text"'):
        result.write_text(content)
        answer = client.get(f"/runs/{run['id']}")
        assert answer.status_code == 200, content
        assert f"/runs/{run['id']}/pause" in answer.text
        assert client.get(f"/runs/{run['id']}/studies/{STUDY}").status_code in (200, 409, 503), content


def test_runs_side_by_side_show_what_differs_and_the_spread(served: Served) -> None:
    """Settings that are the same are left out; the test score stands with its standard deviation."""
    first, second = submitted(served, "ann", "birds-1"), submitted(served, "ann", "birds-2")
    fill(first, ended=True)
    served.runs.patch(served.people["ann"], second["id"], trials=32)
    text = signed_in(served, "ann").get(f"/compare?run={first['id']}&run={second['id']}").text
    differing = text.split('id="title-differences"')[1].split("</table>")[0]
    assert "experiment.trials" in differing
    assert "experiment.methods" not in differing
    assert "test 72.00 ± 1.00 %, 3 seed(s)" in text
    assert f"cotuning-tune tensorboard {first['folder']} {second['folder']}" in text


def test_a_tensorboard_and_an_export_are_a_button_each(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The board's address is a link, for it is another origin; a model is exported once a run is done."""
    run = submitted(served, "ann", "birds-1")
    fill(run, ended=True)
    page, client = f"/runs/{run['id']}", signed_in(served, "ann")
    monkeypatch.setattr(served, "board", lambda who, runs: f"http://127.0.0.1:1/{runs[0]}/")
    shown = send(client, f"/compare?run={run['id']}", f"/compare/tensorboard?run={run['id']}")
    assert f'href="http://127.0.0.1:1/{run["id"]}/"' in shown.text
    assert "/compare/tensorboard" not in signed_in(served, "eve").get(f"/compare?run={run['id']}").text
    assert f'action="{page}/export"' not in client.get(page).text
    with served.store.writing() as connection:
        connection.execute(RUN.update().values(state="done"))
    begun: list[str] = []
    monkeypatch.setattr("cotuning_tune.service.exports._start", lambda folder, kind: begun.append(kind))
    assert send(client, page, f"{page}/export", format="onnx").headers["location"] == page
    assert begun == ["onnx"]
    note = Path(run["folder"]) / "export" / "service-onnx.json"
    note.parent.mkdir()
    note.write_text('{"pid": 0, "since": "never"}')
    (note.parent / "service-onnx").mkdir()
    (note.parent / "service-onnx" / "<model>.onnx").write_text("")
    text = client.get(page).text
    assert f"/api/v1/runs/{run['id']}/exports/onnx/%3Cmodel%3E.onnx" in text
    assert send(client, page, f"{page}/export", format="none").status_code == 422


def test_the_queue_says_the_order_why_one_waits_and_who_has_what(served: Served) -> None:
    """Its sentence is the scheduler's own."""
    submitted(served, "ann", "birds-1", least=3)
    waiting = submitted(served, "ben", "cars", least=2)
    served.round()
    served.round()
    text = signed_in(served, "eve").get("/queue").text
    assert "here: 4 cores" in re.sub(r"</?bdi>", "", text)
    assert served.runs.get(served.people["ben"], waiting["id"])["waits"] in text
    assert "first in line" in text


def test_tokens_are_shown_once_work_and_are_revoked(served: Served) -> None:
    """One's own, of at most one's own rights."""
    client = signed_in(served, "ann")
    made = send(client, "/me", "/me/tokens", label="laptop", role="viewer", days="3")
    token = made.text.split('id="new-token">')[1].split("<")[0]
    script = served.client()
    headers = {"Authorization": f"Bearer {token}"}
    assert script.get("/api/v1/me", headers=headers).json()["role"] == "viewer"
    assert token not in client.get("/me").text
    assert send(client, "/me", "/me/tokens", role="admin", days="3").status_code == 403
    assert send(client, "/me", "/me/tokens", role="member", days="x").status_code == 422
    row = client.get("/me").text.split("laptop")[1]
    action = re.search(r'action="(/me/tokens/\w+/revoke)"', row)
    assert action
    assert send(client, "/me", action[1]).status_code == 303
    assert script.get("/api/v1/me", headers=headers).status_code == 401


def test_an_admin_adds_and_changes_people_and_an_operator_only_looks(served: Served) -> None:
    """A new user comes with a link that works; limits that are left empty are none."""
    client = signed_in(served, "root")
    made = send(client, "/admin", "/admin/users", name="dora", role="member", units="2", disk="1.5")
    address = made.text.split('id="new-link">')[1].split("<")[0]
    text = address.rpartition("/")[2]
    assert served.client().post("/session", data={"link": text}).status_code == 303
    changed = send(client, "/admin", "/admin/users/dora", role="viewer", weight="2", runs="3", active="on")
    assert changed.status_code == 303
    with served.store.reading() as connection:
        user = dict(connection.execute(USER.select().where(USER.c.name == "dora")).mappings().one())
    assert [user[key] for key in ("role", "weight", "units", "runs", "disk", "active")] == [
        "viewer",
        2,
        None,
        3,
        None,
        1,
    ]
    assert "make link" in client.get("/admin/audit").text
    last = send(client, "/admin", "/admin/users/root", role="viewer", weight="1", active="on")
    assert last.status_code == 422
    assert "make another user admin first" in last.text
    page = signed_in(served, "olga").get("/admin").text
    assert "dora" in page
    assert "/admin/users" not in page


def test_the_example_of_the_page_is_an_experiment_that_can_be_run(tmp_path: Path) -> None:
    """It names what there is."""
    from cotuning_tune.experiment import parse

    assert [study.method for study in parse(EXAMPLE, "example", tmp_path).studies] == ["fine_tune", "co_tuning"]
