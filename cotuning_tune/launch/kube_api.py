"""The few calls to a Kubernetes API server that a launch needs, over its REST interface.

lightkube opens the connection (kube_config.py); its own calls leave out ``fieldValidation``, without which the server
drops a mistyped field, and cut a log's lines at ``\\r``. What the server says is one line; what it cannot help for a
moment (5xx, 429, no answer) is tried again.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cotuning_tune.base.errors import UserError, first_line

if TYPE_CHECKING:
    import httpx2

TRIES = 6
WAIT_S = 0.25  # doubled at each try
POLL_S = 0.5
MANAGER = "cotuning-tune"
PLURALS = {
    "RayJob": "apis/ray.io/v1/namespaces/{}/rayjobs",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Secret": "api/v1/namespaces/{}/secrets",
    "PersistentVolumeClaim": "api/v1/namespaces/{}/persistentvolumeclaims",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Pod": "api/v1/namespaces/{}/pods",
}
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MISTYPED = "failed to create typed patch object"  # a 500 all the same
STRICT = {"fieldManager": MANAGER, "fieldValidation": "Strict"}


class Refused(UserError):  # noqa: N818 - what the server did, not a fault of the program
    """The server has answered with an error; ``code`` is the HTTP status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """The objects of one namespace."""

    def __init__(self, client: "httpx2.Client", namespace: str, tries: int = TRIES) -> None:
        self.client, self.namespace, self.tries = client, namespace, tries
        self.server = str(client.base_url).rstrip("/")

    def _path(self, kind: str, *names: str) -> str:
        namespace, *rest = (quote(name, safe="") for name in (self.namespace, *names))
        return "/".join([PLURALS[kind].format(namespace), *rest])

    def _send(self, request: "httpx2.Request", stream: bool = False) -> "httpx2.Response":
        """The server's answer, read or still to be read. Raises Refused, and UserError where it does not answer."""
        import httpx2

        wait, problem = WAIT_S, UserError("")
        for number in range(self.tries):
            if number:
                time.sleep(wait)
                wait *= 2
            try:
                answer = self.client.send(request, stream=stream)
                if answer.is_success:
                    return answer
                problem = self._refused(answer.status_code, answer.reason_phrase, answer.read())
                passing = answer.status_code >= 500 or answer.status_code == 429
                if not passing or MISTYPED in str(problem):
                    break
            except (httpx2.LocalProtocolError, UnicodeError):  # its message would show the token
                raise UserError("the token in the kubeconfig has characters that a token cannot have") from None
            except httpx2.RequestError as reason:  # no connection, a lost one, a timeout
                problem = UserError(f"the API server {self.server} does not answer: {first_line(reason)}")
        raise problem

    def _refused(self, code: int, reason: str, body: bytes) -> Refused:
        server = self.server
        try:
            said = str(json.loads(body).get("message", "")).strip()
        except (ValueError, AttributeError):
            said = ""
        said = " ".join((said or reason).split())
        texts = {
            401: f"{server} does not know who you are (401): renew the credentials of your kubeconfig",
            403: f"{server} does not allow it (403): {said}",
            404: f"not found on {server} (404): {said}",
            409: f"{server} has it already, or is changing it (409): {said}",
        }
        return Refused(texts.get(code, f"{server} refuses it ({code}): {said}"), code)

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None, content: str = JSON
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content, "Accept": JSON}
        request = self.client.build_request(method, path, params=query, content=data, headers=headers)
        return dict(json.loads(self._send(request).content or b"{}"))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object of that name, None where there is none. Raises UserError."""
        try:
            return self._ask("GET", self._path(kind, name))
        except Refused as problem:
            if problem.code == 404:
                return None
            raise

    def apply(self, item: Mapping[str, Any], rehearsal: bool = False) -> None:
        """Make the object, or change it to this (server-side apply); or only have it checked. Raises UserError."""
        query = {**STRICT, "force": "true", **({"dryRun": "All"} if rehearsal else {})}
        self._ask("PATCH", self._path(item["kind"], item["metadata"]["name"]), query, item, APPLY)

    def rehearse(self, item: Mapping[str, Any]) -> None:
        """Have the server check an object as if it were made; makes nothing. Raises UserError."""
        self._ask("POST", self._path(item["kind"]), {**STRICT, "dryRun": "All"}, item)

    def create(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; the one of its name where it is there already. Raises UserError."""
        try:
            return self._ask("POST", self._path(item["kind"]), STRICT, item)
        except Refused as problem:  # an earlier try may have made it before its answer was lost
            found = self.find(item["kind"], item["metadata"]["name"]) if problem.code == 409 else None
            if found is None:
                raise
            return found

    def delete(self, kind: str, name: str, seconds: float) -> bool:
        """Delete it after all that belongs to it; whether it has gone within that time. Raises UserError."""
        try:
            self._ask("DELETE", self._path(kind, name), None, {"propagationPolicy": "Foreground"})
        except Refused as problem:
            if problem.code != 404:
                raise
        deadline = time.monotonic() + seconds
        while self.find(kind, name):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def pods(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """The pods with these labels, the oldest first."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._ask("GET", self._path("Pod"), {"labelSelector": selector}).get("items") or []
        return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    def log(self, pod: str, follow: bool, since: str = "") -> Iterator[tuple[str, str]]:
        """The pod's lines, each with its time; with ``follow`` until the pod ends or the line is cut."""
        import httpx2

        asked = {"follow": str(follow).lower(), "timestamps": "true", **({"sinceTime": since} if since else {})}
        answer = self._send(self.client.build_request("GET", self._path("Pod", pod, "log"), params=asked), stream=True)
        try:
            for line in _lines(answer.iter_bytes()):
                when, _, text = line.decode(errors="replace").partition(" ")
                yield when, text
        except httpx2.RequestError:  # cut while following: the caller asks again from the last time
            return
        finally:
            answer.close()


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Each with its newline; a line that is cut by an error is not one."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest
