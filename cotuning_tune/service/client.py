"""A service from Python: submit, watch, change and read runs over its API.

>>> from cotuning_tune import Client
>>> client = Client("http://127.0.0.1:8765")
>>> run = client.submit("search_spaces/demo.toml")
>>> client.wait(run["id"])["state"], client.table(run["id"])
"""

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.tables import Table
from cotuning_tune.service.states import ENDED

if TYPE_CHECKING:
    import httpx

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # between two tries of a request
AGAIN = (429, 502, 503, 504)
HERE = ("127.0.0.1", "localhost", "::1")
MINE = Path("~/.cotuning_tune/token")
POLL_S, QUIET_S = 1.0, 60.0
RESTING = (*ENDED, "paused")
Run = dict[str, Any]


class ServiceError(UserError):
    """What the service has refused, with its cure. ``status``: of HTTP; ``content``: all of its answer."""

    def __init__(self, status: int, content: Mapping[str, Any]) -> None:
        detail, cure = str(content.get("detail", "")), str(content.get("cure", ""))
        place = f"{content['file']} line {content['line']}: " if content.get("line") and content.get("file") else ""
        super().__init__(f"{place}{detail}: {cure}" if cure else f"{place}{detail}", str(content.get("key", "")))
        self.status, self.content = status, content


class Client:
    """A service at ``url`` (default: ``COTUNING_TUNE_SERVER``), asked with a ``token``.

    Without one it takes ``COTUNING_TUNE_TOKEN``, else ``~/.cotuning_tune/token``, a file that its owner alone may
    read. Every method raises ServiceError for what the service refuses, ConnectionError where it does not answer in
    half a minute; requests are repeated meanwhile, and count once. Times in seconds since 1970.
    """

    def __init__(self, url: str = "", token: str | None = None, *, timeout: float = 30.0) -> None:
        try:
            import httpx
        except ImportError:
            raise UserError("a service is asked by one more package: pip install 'cotuning_tune[serve]'") from None
        self.url = (url or os.environ.get("COTUNING_TUNE_SERVER", "")).rstrip("/")
        _check(self.url)
        headers = {"Authorization": f"Bearer {own_token() if token is None else token}"}
        try:
            self._http = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=timeout)
        except UnicodeEncodeError:
            raise UserError("the token is none: it has letters, digits, '-' and '_'") from None

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, experiment: str | Path, name: str = "", **options: object) -> Run:
        """Submit an experiment: a file's path, or its TOML text (with a line's end in it).

        ``name``: default: the file's. ``options``: backend, least, most (trials at a time), priority, labels, private.
        """
        text, path = str(experiment), Path(str(experiment))
        if "\n" not in text:
            from cotuning_tune.base.toml_text import read_text

            text, name = read_text(path), name or path.stem
        return self._json("POST", "/runs", {"experiment": text, "name": name or "run", **options})

    def check(self, experiment: str, name: str = "run") -> dict[str, Any]:
        """What an experiment's TOML text would take. Raises ServiceError with key and line of its first mistake."""
        return self._json("POST", "/checks", {"experiment": experiment, "name": name})

    def runs(self, **wanted: str) -> Iterator[Run]:
        """All runs that one may see, the newest first; ``wanted``: owner, state, label, text."""
        cursor = ""
        while True:
            page = self._json("GET", "/runs", params={**wanted, "limit": "200", "cursor": cursor})
            yield from page["runs"]
            cursor = page["next"]
            if not cursor:
                return

    def run(self, identity: str) -> Run:
        """All of a run."""
        return self._json("GET", _run(identity))

    def find(self, word: str) -> Run:
        """A run by its id, or the newest of one's own by its name. Raises UserError where there is none."""
        try:
            return self.run(word)
        except ServiceError as problem:
            if problem.status != 404:
                raise
        for run in self.runs(text=word, owner=self.me()["name"]):
            if run["name"] == word:
                return run
        raise UserError(f"no run {word} on {self.url}: cotuning-tune --server {self.url} list shows them")

    def me(self) -> dict[str, Any]:
        """Who asks, with which role."""
        return self._json("GET", "/me")

    def queue(self) -> list[Run]:
        """Runs that wait or work, each with why it waits."""
        return list(self._json("GET", "/queue")["runs"])

    def pause(self, identity: str) -> Run:
        """Ask for a run to pause: its driver ends cleanly, and resume continues it."""
        return self._json("POST", f"{_run(identity)}/pause")

    def resume(self, identity: str) -> Run:
        """Ask for a run to continue."""
        return self._json("POST", f"{_run(identity)}/resume")

    def cancel(self, identity: str) -> Run:
        """Ask for a run to end; its folder stays."""
        return self._json("POST", f"{_run(identity)}/cancel")

    def extend(self, identity: str, trials: int) -> Run:
        """Give each study of a run so many trials in all."""
        return self.change(identity, trials=trials)

    def change(self, identity: str, tag: str = "", **changes: object) -> Run:
        """Change a run: trials, least, most, priority, labels, private; where given, only while it has
        that ``tag`` (of ``run``)."""
        headers = {"If-Match": f'"{tag}"'} if tag else {}
        return self._json("PATCH", _run(identity), changes, headers=headers)

    def remove(self, identity: str, *, purge: bool = False) -> Run:
        """Take an ended run out of the lists; with ``purge`` its folder is deleted too."""
        return self._json("DELETE", _run(identity), params={"purge": str(purge).lower()})

    def wait(self, identity: str, timeout: float = float("inf")) -> Run:
        """The run once it has ended or is paused. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while not _rests(run := self.run(identity)):
            if time.monotonic() > until:
                raise TimeoutError(f"{run['name']} is still {run['state']}")
            time.sleep(min(POLL_S, max(until - time.monotonic(), 0.0)))
        return run

    def watch(self, identity: str) -> Iterator[dict[str, Any]]:
        """The events of a run, from its first one on until it has ended or is paused; lost connections are taken up
        again where they broke. Leaving it, as by Ctrl-C, leaves the run as it is."""
        last = 0
        while True:
            resting = _rests(self.run(identity))
            for event in self._events(identity, last, following=not resting):
                last = max(last, event["seq"])
                yield event
                if not resting and event["kind"] == "state" and event["content"]["state"] in RESTING:
                    break
            if resting:
                return

    def _events(self, identity: str, after: int, *, following: bool) -> Iterator[dict[str, Any]]:
        """What is told after an event; of a run that rests what is kept of it."""
        import httpx

        params = {"run": identity, "after": str(after)}
        timeout = httpx.Timeout(30.0, read=QUIET_S if following else 1.0)
        try:
            with self._http.stream("GET", "/events", params=params, timeout=timeout) as answer:
                if answer.status_code == 200:
                    yield from (event for event in _parsed(answer.iter_lines()) if event)
        except httpx.TransportError:
            pass
        if following:
            time.sleep(POLL_S)

    def studies(self, identity: str) -> list[dict[str, Any]]:
        """Each study that has begun: trials by state, best validation score, retrained seeds."""
        return list(self._json("GET", f"{_run(identity)}/studies")["studies"])

    def trial(self, identity: str, study: str, number: int) -> dict[str, Any]:
        """A trial with every epoch."""
        return self._json("GET", f"{_run(identity)}/studies/{quote(study, safe='')}/trials/{number}")

    def tables(self, identity: str) -> list[Table]:
        """How far a run is, and the tables of its report."""
        found = self._json("GET", f"{_run(identity)}/tables")["tables"]
        return [Table(one["name"], one["title"], one["header"], one["rows"]) for one in found]

    def table(self, identity: str, name: str = "") -> Table:
        """One of them; without a name the report's first, else how far the run is. Raises UserError."""
        found = {table.name: table for table in self.tables(identity)}
        for wanted in [name] if name else ["main", "status"]:
            if wanted in found:
                return found[wanted]
        raise UserError(f"the run has no table {name}: there are {', '.join(found)}")

    def report(self, identity: str, name: str = "report.md") -> bytes:
        """A file of a run's report."""
        return self._ask("GET", f"{_run(identity)}/report/{quote(name, safe='')}").content

    def compare(self, identities: list[str]) -> dict[str, Any]:
        """Runs side by side: ``differing`` settings, a value per run; each one's studies."""
        made = self._json("POST", "/comparisons", {"runs": identities})
        return self._json("GET", f"/comparisons/{made['id']}")

    def export(self, identity: str, format: str) -> dict[str, Any]:
        """Have the model exported that the report says to take; ``exports`` tells how far it is."""
        return self._json("POST", f"{_run(identity)}/exports", {"format": format})

    def exports(self, identity: str) -> list[dict[str, Any]]:
        """Every export of a run: ``format``, ``state``, ``files``."""
        return list(self._json("GET", f"{_run(identity)}/exports")["exports"])

    def exported(self, identity: str, format: str, name: str) -> bytes:
        """A file of an export."""
        return self._ask("GET", f"{_run(identity)}/exports/{quote(format, safe='')}/{quote(name)}").content

    def tensorboard(self, identity: str) -> str:
        """The address of a TensorBoard on a run."""
        return str(self._json("POST", f"{_run(identity)}/tensorboard")["url"])

    def log(self, identity: str, *, follow: bool = False) -> Iterator[str]:
        """What a run's drivers have said, in pieces; ``follow``: until the run has ended or is paused."""
        import codecs

        decoder, offset = codecs.getincrementaldecoder("utf-8")("replace"), 0
        while True:
            resting = not follow or _rests(self.run(identity))
            try:
                answer = self._ask("GET", f"{_run(identity)}/log", headers={"Range": f"bytes={offset}-"})
            except ServiceError as problem:
                if problem.status != 416:
                    raise
            else:
                offset += len(answer.content)
                yield decoder.decode(answer.content)
            if resting:
                return
            time.sleep(POLL_S)

    def _json(self, method: str, path: str, body: Mapping[str, object] | None = None, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(method, path, body, **more).json()
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> "httpx.Response":
        """An answer; a request that may have been lost is repeated under the same key, so that it counts once."""
        import httpx

        given = dict(headers or {}) | ({"Idempotency-Key": secrets.token_hex(16)} if method == "POST" else {})
        problem: object = ""
        for pause in (*PAUSES_S, None):
            try:
                answer = self._http.request(method, path, json=body, headers=given, **more)
            except httpx.TransportError as lost:
                problem = lost
            else:
                if answer.status_code < 400:
                    return answer
                if answer.status_code not in AGAIN:
                    raise ServiceError(answer.status_code, _content(answer))
                problem = _content(answer)["detail"]
            if pause is not None:
                time.sleep(pause)
        raise ConnectionError(f"{self.url} does not answer: {problem}")


def _rests(run: Run) -> bool:
    """Whether it has ended or is paused; not one that shall continue, and that the service has not seen to yet."""
    return run["state"] in ENDED or (run["state"] == "paused" and run["wanted"] != "run")


def _run(identity: str) -> str:
    return f"/runs/{quote(identity, safe='')}"


def _content(answer: "httpx.Response") -> dict[str, Any]:
    """What an answer of refusal says."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": f"HTTP {answer.status_code} {answer.reason_phrase}"}


def _parsed(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream; {} for a sign of life, which says nothing."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].lstrip())
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []


def _check(url: str) -> None:
    """Raises UserError for no address, and for one to which the token would go readable by others."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        good = parts.scheme in ("http", "https") and bool(host) and (parts.port or 1) > 0
    except ValueError:
        good, host = False, ""
    if not good:
        raise UserError(
            f"'{url}' does not name a service: http://127.0.0.1:PORT or https://HOST is possible (--server)"
        )
    if parts.scheme == "http" and host not in HERE:
        raise UserError(
            f"{url}: the token would be readable on the network: https:// is possible, or a tunnel (ssh -L)"
        )


def own_token() -> str:
    """The token of ``COTUNING_TUNE_TOKEN``, else of ``~/.cotuning_tune/token``. Raises UserError."""
    if given := os.environ.get("COTUNING_TUNE_TOKEN", "").strip():
        return given
    path = Path(os.environ.get("COTUNING_TUNE_TOKEN_FILE") or MINE).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise UserError(f"{path} can be read by others: chmod 600 {path}, and ask for a new token")
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UserError(f"no token: set COTUNING_TUNE_TOKEN, or write it to {path} (chmod 600)") from None
