"""The few calls to a Kubernetes API server that a launch needs, over its REST interface.

No package ``kubernetes``: it weighs more than all of this project. What the server says is one line; what it
cannot help for a moment (5xx, 429, no answer) is tried again.
"""

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.launch.kube_config import Access

TRIES = 6
WAIT_S = 0.25  # doubled at each try
ANSWER_S = 20.0
POLL_S = 0.5
MANAGER = "cotuning-tune"
MADE_BY = "cotuning-tune/made-by"
PLURALS = {
    "RayJob": "/apis/ray.io/v1/{}/rayjobs",
    "ConfigMap": "/api/v1/{}/configmaps",
    "Secret": "/api/v1/{}/secrets",
    "PersistentVolumeClaim": "/api/v1/{}/persistentvolumeclaims",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/{}/networkpolicies",
    "Pod": "/api/v1/{}/pods",
}


class Refused(UserError):  # noqa: N818 - what the server did, not a fault of the program
    """The server has answered with an error; ``code`` is the HTTP status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api:
    """The objects of one namespace."""

    def __init__(self, access: Access, namespace: str, tries: int = TRIES) -> None:
        self.access, self.namespace, self.tries = access, namespace, tries
        tls = [urllib.request.HTTPSHandler(context=access.tls)] if access.tls else []
        self._opener = urllib.request.build_opener(_NoRedirect, *tls)

    def _path(self, kind: str, name: str = "", more: str = "", **query: Any) -> str:
        path = PLURALS[kind].format(f"namespaces/{quote(self.namespace, safe='')}")
        parts = [path, quote(name, safe=""), more] if name else [path]
        asked = {key: value for key, value in query.items() if value not in (None, "")}
        return "/".join(part for part in parts if part) + (f"?{urlencode(asked)}" if asked else "")

    def _open(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """The server's answer, as an open file. Raises Refused, and UserError where it does not answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.access.headers, "Content-Type": content, "Accept": "application/json"}
        request = urllib.request.Request(self.access.server + path, data, headers, method=method)
        wait, problem = WAIT_S, UserError("")
        for number in range(self.tries):
            if number:
                time.sleep(wait)
                wait *= 2
            try:
                return self._opener.open(request, timeout=ANSWER_S)
            except urllib.error.HTTPError as answer:
                with answer:
                    problem = self._refused(answer)
                if answer.code < 500 and answer.code != 429:
                    break
            except (OSError, HTTPException) as reason:  # URLError, a lost connection, a timeout
                text = first_line(getattr(reason, "reason", None) or reason)  # type: ignore[arg-type]
                problem = UserError(f"the API server {self.access.server} does not answer: {text}")
        raise problem

    def _refused(self, answer: urllib.error.HTTPError) -> Refused:
        server, code = self.access.server, answer.code
        try:
            said = str(json.loads(answer.read()).get("message", "")).strip()
        except (ValueError, AttributeError, OSError):
            said = ""
        said = " ".join((said or str(answer.reason)).split())
        texts = {
            401: f"{server} does not know who you are (401): renew the credentials of your kubeconfig",
            403: f"{server} does not allow it (403): {said}",
            404: f"not found on {server} (404): {said}",
            409: f"{server} has it already, or is changing it (409): {said}",
        }
        return Refused(texts.get(code, f"{server} refuses it ({code}): {said}"), code)

    def _ask(self, method: str, path: str, body: Any = None, content: str = "application/json") -> dict[str, Any]:
        with self._open(method, path, body, content) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object of that name, None where there is none. Raises UserError."""
        try:
            return self._ask("GET", self._path(kind, name))
        except Refused as problem:
            if problem.code == 404:
                return None
            raise

    def apply(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Make the object, or change it to this (server-side apply). Raises UserError."""
        path = self._path(
            item["kind"], item["metadata"]["name"], fieldManager=MANAGER, force="true", fieldValidation="Strict"
        )
        return self._ask("PATCH", path, item, "application/apply-patch+yaml")

    def rehearse(self, item: Mapping[str, Any]) -> None:
        """Have the server check an object as if it were made; makes nothing. Raises UserError."""
        self._ask("POST", self._path(item["kind"], fieldValidation="Strict", dryRun="All"), item)

    def create(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object that is not there. Raises Refused with code 409 where it is, whoever made it."""
        metadata, mark = item["metadata"], secrets.token_hex(8)
        marked = {**metadata, "annotations": {**metadata.get("annotations", {}), MADE_BY: mark}}
        path = self._path(item["kind"], fieldManager=MANAGER, fieldValidation="Strict")
        try:
            return self._ask("POST", path, {**item, "metadata": marked})
        except Refused as problem:  # an earlier try may have made it before its answer was lost
            found = self.find(item["kind"], metadata["name"]) if problem.code == 409 else None
            if found and found["metadata"].get("annotations", {}).get(MADE_BY) == mark:
                return found
            raise

    def delete(self, kind: str, name: str, seconds: float) -> bool:
        """Delete it after all that belongs to it; whether it has gone within that time. Raises UserError."""
        with _gone_is_fine():
            self._ask("DELETE", self._path(kind, name), {"propagationPolicy": "Foreground"})
        deadline = time.monotonic() + seconds
        while self.find(kind, name):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def pods(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """The pods with these labels, the oldest first."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._ask("GET", self._path("Pod", labelSelector=selector)).get("items") or []
        return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    def log(self, pod: str, follow: bool, since: str = "") -> Iterator[tuple[str, str]]:
        """The pod's lines, each with its time; with ``follow`` until the pod ends or the line is cut."""
        path = self._path("Pod", pod, "log", follow=str(follow).lower(), timestamps="true", sinceTime=since)
        try:
            with self._open("GET", path) as answer:
                for line in answer:
                    when, _, text = line.decode(errors="replace").partition(" ")
                    yield when, text
        except Refused:
            raise
        except (OSError, HTTPException):  # cut while following: the caller asks again from the last time
            return


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except Refused as problem:
        if problem.code != 404:
            raise
