"""The client and the command line against a service: the same verbs, whatever gets lost on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import cotuning_tune
from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._server import asked
from cotuning_tune.service import client as module
from cotuning_tune.service.client import Client, ServiceError, own_token
from tests.service.served import EXPERIMENT, Served, fill, listening, wait_for

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def url(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a service whose reconciler goes round; its person is ann."""
    ended = threading.Event()

    def go() -> None:
        while not ended.wait(0.05):
            served.round()

    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(module, "POLL_S", 0.05)
    monkeypatch.setenv("COTUNING_TUNE_TOKEN", served.tokens["ann"])
    thread = threading.Thread(target=go)
    with listening(served) as address:
        thread.start()
        yield address
        ended.set()
        thread.join()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of the service."""
    with cotuning_tune.Client(url) as made:
        yield made


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment's file."""
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT)
    return path


def held(served: Served) -> None:
    """Runs that take their time."""
    served.world.work = lambda identity: None  # type: ignore[method-assign]


def test_a_run_from_python(served: Served, client: Client, experiment: Path) -> None:
    run = client.submit(experiment, labels={"a": "b"})
    assert (run["name"], run["experiment"]) == ("mine", EXPERIMENT)
    done = client.wait(run["id"], timeout=60)
    assert done["state"] == "done"
    kinds = [(event["kind"], event["content"].get("state")) for event in client.watch(run["id"])]
    assert kinds[0] == ("submitted", None)
    assert kinds[-1] == ("state", "done")
    Path(run["folder"]).mkdir(parents=True)
    fill(Path(run["folder"]))
    assert client.table(run["id"]).rows == [["fine_tune", "61.5"]]
    assert client.table(run["id"], "status").rows[0][:2] == ["digits-100-fine_tune", "1"]
    assert client.trial(run["id"], "digits-100-fine_tune", 0)["score"] == 61.5
    assert "".join(client.log(run["id"], follow=True)) == "first line\nsecond line\n"
    assert client.report(run["id"], "main.csv").startswith(b"method,")
    assert client.extend(run["id"], 6)["trials"] == 6
    assert client.find("mine")["id"] == run["id"]
    with pytest.raises(UserError, match="no table nope: there are status, main"):
        client.table(run["id"], "nope")


def test_pages_of_runs_are_walked(served: Served, client: Client) -> None:
    for number in range(5):
        client.submit(EXPERIMENT, f"r{number}", labels={"even": str(number % 2)})
    assert [run["name"] for run in client.runs()] == ["r4", "r3", "r2", "r1", "r0"]
    assert [run["name"] for run in client.runs(label="even=0")] == ["r4", "r2", "r0"]


def test_a_running_one_is_watched_until_it_is_paused(served: Served, client: Client) -> None:
    held(served)
    run = client.submit(EXPERIMENT, "a")
    kinds = []
    for event in client.watch(run["id"]):
        kinds.append(event["kind"])
        if len(kinds) == 2:
            client.pause(run["id"])
    assert "pause" in kinds
    assert client.wait(run["id"], timeout=60)["state"] == "paused"
    assert client.resume(run["id"])["wanted"] == "run"
    with pytest.raises(TimeoutError, match="a is still"):
        client.wait(run["id"], timeout=0.2)


class Lossy(httpx.BaseTransport):
    """A network that loses answers after the service has given them; or a proxy whose service is away."""

    def __init__(self, inner: httpx.BaseTransport, losses: list[object]) -> None:
        self.inner, self.losses, self.keys = inner, losses, list[str]()

    def close(self) -> None:
        self.inner.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("idempotency-key", ""))
        answer = self.inner.handle_request(request)
        loss = self.losses.pop(0) if self.losses else None
        if loss:
            answer.close()
        if isinstance(loss, Exception):
            raise loss
        return httpx.Response(loss, text="<h1>Bad gateway</h1>") if isinstance(loss, int) else answer


@pytest.mark.parametrize(
    "losses", [[httpx.ReadError("cut"), httpx.ReadTimeout("late")], [502, 503], [504, httpx.ConnectError("")]]
)
def test_a_lost_answer_doubles_no_run(served: Served, client: Client, losses: list[object]) -> None:
    lossy = client._http._transport = Lossy(client._http._transport, list(losses))
    client.submit(EXPERIMENT, "once")
    assert len(lossy.keys) == 3
    assert len({*lossy.keys}) == 1
    assert len(lossy.keys[0]) == 32
    client.submit(EXPERIMENT, "twice")
    assert len({*lossy.keys}) == 2
    assert [run["name"] for run in client.runs()] == ["twice", "once"]


def test_a_service_that_is_away(served: Served, client: Client) -> None:
    client._http._transport = Lossy(client._http._transport, [httpx.ConnectError("refused")] * 3)
    with pytest.raises(ConnectionError, match="does not answer: refused"):
        client.me()


def test_refusals_are_mistakes_with_their_cure(served: Served, client: Client) -> None:
    client.submit(EXPERIMENT, "a")
    with pytest.raises(ServiceError, match=r"^you have a run a: choose another name, or extend that one$") as found:
        client.submit(EXPERIMENT, "a")
    assert (found.value.status, found.value.key) == (409, "name")
    with pytest.raises(ServiceError, match="changed since"):
        client.change(client.find("a")["id"], version=99, trials=9)
    with Client(client.url, token="wrong") as other, pytest.raises(ServiceError) as found:
        other.me()
    assert found.value.status == 401


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    monkeypatch.delenv("COTUNING_TUNE_TOKEN", raising=False)
    monkeypatch.setenv("COTUNING_TUNE_TOKEN_FILE", str(path))
    with pytest.raises(UserError, match=r"no token: set COTUNING_TUNE_TOKEN, or write it to .*token \(chmod 600\)"):
        own_token()
    path.write_text("mine\n")
    path.chmod(0o644)
    with pytest.raises(UserError, match="can be read by others: chmod 600"):
        own_token()
    path.chmod(0o600)
    assert own_token() == "mine"
    monkeypatch.setenv("COTUNING_TUNE_TOKEN", "other")
    assert own_token() == "other"


@pytest.mark.parametrize(
    "url", ["", "localhost", "ftp://localhost", "http://lab.example.org", "http://localhost:x", "http://"]
)
def test_an_address_that_is_none_or_not_safe(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COTUNING_TUNE_SERVER", raising=False)
    with pytest.raises(UserError, match=r"is no service|readable on the network"):
        Client(url, token="t")


def test_the_command_line_of_a_service(served: Served, url: str, call: Call, experiment: Path) -> None:
    code, lines, _ = call("--server", url, "run", experiment, "--set", "train.epochs=3", "--label", "a=b")
    assert (code, lines[0].split(" as ")[0], lines[-3]) == (0, "mine is submitted", "done")
    run = served.runs.listed(served.people["ann"])["runs"][0]
    assert (run["labels"], "epochs = 3" in served.runs.get(served.people["ann"], run["id"])["experiment"]) == (
        {"a": "b"},
        True,
    )
    assert call("--server", url, "status", "mine")[1][-1] == f"mine ({run['id']}) of ann on here: done"
    assert call("--server", url, "list")[1][-1].split()[1:6:2] == [run["id"], "mine", "ann"]
    assert call("--server", url, "extend", "mine", "--trials", "9", "--detach")[:2] == (
        0,
        ["each study of mine now has a budget of 9 trials"],
    )
    code, _, errors = call("--server", url, "extend", run["id"], "--trials", "3")
    assert (code, errors) == (2, ["cotuning-tune: trials = 3: each study has 9 already: a run only grows"])
    code, _, errors = call("--server", url, "report", "mine")
    assert (code, errors) == (2, ["cotuning-tune: mine has no report yet: it is written when the run is done"])
    folder = Path(run["folder"])
    folder.mkdir(parents=True)
    fill(folder)
    (folder / "report" / "report.md").write_text("# mine\n")
    assert call("--server", url, "report", "mine")[1] == ["# mine"]
    assert call("--server", url, "log", "mine")[1] == ["first line", "second line"]
    code, lines, _ = call("--server", url, "run", experiment, "--name", "b", "--detach")
    assert code == 0
    assert call("--server", url, "check", experiment)[0] == 0
    code, lines, _ = call("--server", url, "compare", "mine", "b")
    assert (code, [line.split() for line in lines if "epochs" in line]) == (
        0,
        [["|", "train.epochs", "|", "3", "|", "-", "|"]],
    )


def test_ctrl_c_leaves_the_run(
    served: Served, url: str, call: Call, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(served)

    def watch(self: Client, identity: str) -> Iterator[dict]:
        yield {"seq": 1, "kind": "state", "content": {"state": "running"}}
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "watch", watch)
    code, lines, errors = call("--server", url, "run", experiment)
    assert (code, lines[-1]) == (85, "running")
    assert errors[-1] == "cotuning-tune: left; what the service works on continues"
    assert served.runs.listed(served.people["ann"])["runs"][0]["wanted"] == "run"


def test_a_run_that_is_stopped_elsewhere_is_unfinished(served: Served, url: str, call: Call, experiment: Path) -> None:
    held(served)

    def stop() -> None:
        run = wait_for(lambda: served.runs.listed(served.people["ann"])["runs"])[0]
        time.sleep(0.1)
        served.runs.wish(served.people["ann"], run["id"], "pause")

    thread = threading.Thread(target=stop)
    thread.start()
    code, _, errors = call("--server", url, "run", experiment)
    thread.join()
    assert (code, errors) == (85, ["cotuning-tune: mine is paused"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--server", "http://localhost:1", "data", "list"], "data works on this machine alone: a service knows run,"),
        (["--server"], "--server: the address of a service is needed"),
        (["--server=", "list"], "--server: the address of a service is needed"),
        (["--server=nowhere", "list"], "'nowhere' is no service"),
    ],
)  # fmt: skip
def test_mistakes_of_the_command_line(call: Call, words: list[str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTUNING_TUNE_TOKEN", "t")
    code, _, errors = call(*words)
    assert code == 2
    assert errors[0].startswith(f"cotuning-tune: {line}")


def test_the_variable_means_a_service_where_it_can(
    served: Served, url: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTUNING_TUNE_SERVER", url)
    assert call("list")[1][0].startswith("| id")
    assert asked(["list", "methods"], url) == ("", ["list", "methods"])  # of this machine
    with pytest.raises(SystemExit, match="0"):
        call("--version")
