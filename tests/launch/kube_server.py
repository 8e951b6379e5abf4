"""A Kubernetes API server as far as a launch talks to one: objects in memory, pods with logs, planted errors."""

import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "let-me-in"


@dataclass
class Kube:
    """What the server holds and was asked; ``errors``: one for each request, 0 for none.

    ``problems``: what its schemas say against an object, told where strict validation is asked for.
    """

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)
    logs: dict[str, list[str]] = field(default_factory=dict)
    problems: Callable[[dict[str, Any]], Iterable[str]] = lambda item: ()
    tokens: list[str] = field(default_factory=list)
    lost_answers: int = 0
    gone_after: int = 1
    cut_logs: int = 0
    port: int = 0

    def job(self) -> dict[str, Any]:
        """The RayJob."""
        (found,) = self.named("rayjobs")
        return found

    def named(self, plural: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return [item for path, item in self.objects.items() if path.rsplit("/", 2)[1] == plural]

    def add_pod(self, name: str, lines: list[str], made: str, **labels: str) -> None:
        """A running pod with these lines in its log."""
        self.objects[f"/api/v1/namespaces/default/pods/{name}"] = {
            "metadata": {"name": name, "labels": labels, "creationTimestamp": made},
            "status": {"phase": "Running"},
        }
        self.logs[name] = lines


class _Handler(BaseHTTPRequestHandler):
    kube: Kube
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, code: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def _error(self, code: int, message: str) -> None:
        self._answer(code, {"kind": "Status", "code": code, "message": message})

    def _serve(self) -> None:
        kube, parts = self.kube, urlsplit(self.path)
        kube.asked.append((self.command, parts.path))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        kube.bodies.append(body)
        kube.tokens.append(self.headers.get("Authorization", "").removeprefix("Bearer "))
        error = kube.errors.pop(0) if kube.errors else (0, "")
        if error[0]:
            self._error(*error)
        elif kube.tokens[-1] != TOKEN:
            self._error(401, "Unauthorized")
        else:
            getattr(self, f"_{self.command.lower()}")(parts.path, parse_qs(parts.query), body)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def _get(self, path: str, query: dict[str, list[str]], _: Any) -> None:
        if path.endswith("/log"):
            self._log(path.split("/")[-2], query.get("sinceTime", [""])[0])
        elif "labelSelector" in query:
            asked = dict(part.split("=") for part in query["labelSelector"][0].split(","))
            pods = [item for item in self.kube.named("pods") if asked.items() <= item["metadata"]["labels"].items()]
            self._answer(200, {"items": pods})
        elif path not in self.kube.objects:
            self._error(404, f"{path} not found")
        else:
            item = self.kube.objects[path]
            if "deletionTimestamp" in item["metadata"]:
                self.kube.gone_after -= 1
                if self.kube.gone_after <= 0:
                    del self.kube.objects[path]
            self._answer(200, item)

    def _log(self, pod: str, since: str) -> None:
        lines = [line for line in self.kube.logs[pod] if line[:19] >= since[:19]]  # whole seconds, as the real one
        if self.kube.cut_logs:
            self.kube.cut_logs -= 1
            lines = lines[: len(lines) // 2]
        data = "".join(lines).encode()
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _refuses(self, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> bool:
        assert query["fieldManager"] == ["cotuning-tune"]
        wanted = path.partition("/namespaces/")[0].removeprefix("/apis/").removeprefix("/api/")
        problems = self.kube.problems(body) if query.get("fieldValidation") == ["Strict"] else ()
        said = [(400, f"strict decoding error: {problem}") for problem in problems]
        if self.command == "PATCH":  # as the real one, github.com/kubernetes/kubernetes/issues/139253
            said = [(500, f"failed to create typed patch object: {problem}") for problem in problems]
        if body["apiVersion"] != wanted:
            said = [(400, f"the API version in the data ({body['apiVersion']}) does not match the expected ({wanted})")]
        if said:
            self._error(*said[0])
        return bool(said)

    def _post(self, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> None:
        where = f"{path}/{body['metadata']['name']}"
        if self._refuses(path, query, body):
            return
        if where in self.kube.objects:
            self._error(409, f"{body['metadata']['name']} already exists")
            return
        if "dryRun" in query:
            self._answer(201, body)
            return
        body["metadata"]["uid"] = f"uid-{len(self.kube.asked)}"
        self.kube.objects[where] = body
        if self.kube.lost_answers:
            self.kube.lost_answers -= 1
            self._error(500, "etcdserver: request timed out")
        else:
            self._answer(201, body)

    def _patch(self, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> None:
        assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        if self._refuses(path, query, body):
            return
        if "dryRun" not in query:
            self.kube.objects[path] = body
        self._answer(200, body)

    def _delete(self, path: str, _: Any, body: dict[str, Any]) -> None:
        if path not in self.kube.objects:
            self._error(404, f"{path} not found")
            return
        assert body["propagationPolicy"] == "Foreground"
        self.kube.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self._answer(200, self.kube.objects[path])


@contextmanager
def kube_server(tls: ssl.SSLContext | None = None) -> Iterator[Kube]:
    """The server on a port of 127.0.0.1."""
    kube = Kube()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kube": kube}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    kube.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield kube
    finally:
        server.shutdown()
        server.server_close()


def write_kubeconfig(path: Path, server: str, **user: Any) -> Path:
    """A kubeconfig with one context."""
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me"}}],
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(json.dumps(config))
    return path
