"""Where the Kubernetes API server is and how one proves to be somebody there.

A kubeconfig as kubectl reads it (certificates, token, or a command that makes one), or the service account of the
pod that this runs in.
"""

import base64
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cotuning_tune.base.errors import UserError, unknown

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
COMMAND_S = 60


@dataclass(frozen=True)
class Access:
    """A server's address, the TLS context that knows its authority, and the headers that say who asks."""

    server: str
    tls: ssl.SSLContext | None
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # a token must not get into a log


def find_access(kubeconfig: str = "", context: str = "", account: Path = SERVICE_ACCOUNT) -> Access:
    """The access of a kubeconfig (``KUBECONFIG``, ``~/.kube/config``), or of the pod's account. Raises UserError."""
    named = kubeconfig or os.environ.get("KUBECONFIG", "")
    paths = [Path(part).expanduser() for part in (named or "~/.kube/config").split(os.pathsep) if part]
    found = [path for path in paths if path.is_file()]
    if found:
        return _of_files(found, context)
    if named:
        raise UserError(f"the kubeconfig {named} cannot be read: there is no such file")
    if (account / "token").is_file() and (host := os.environ.get("KUBERNETES_SERVICE_HOST")):
        return _of_account(account, host, os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
    raise UserError("no kubeconfig: set KUBECONFIG, or the profile's kubeconfig (it is what kubectl uses)")


def _of_account(account: Path, host: str, port: str) -> Access:
    tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
    address = f"[{host}]" if ":" in host else host
    return Access(f"https://{address}:{port}", tls, _bearer((account / "token").read_text()))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.strip()}"}


def _of_files(paths: list[Path], context: str) -> Access:
    from cotuning_tune.launch.yaml_text import documents

    lists: dict[str, dict[str, tuple[Any, Path]]] = {"contexts": {}, "clusters": {}, "users": {}}
    current = context
    for path in paths:  # as kubectl: what the first file says holds
        for document in documents(path.read_text(encoding="utf-8"), str(path)):
            current = current or str(document.value.get("current-context") or "")
            for kind, known in lists.items():
                for item in document.value.get(kind) or []:
                    known.setdefault(item["name"], (item.get(kind[:-1]) or {}, path.parent))
    if not current:
        raise UserError(f"{paths[0]} has no current-context: set the profile's context")
    chosen, _ = _named(lists["contexts"], "context", current)
    cluster = _named(lists["clusters"], "cluster", str(chosen.get("cluster")))
    user = _named(lists["users"], "user", str(chosen["user"])) if chosen.get("user") else ({}, paths[0].parent)
    return _access(cluster, user)


def _named(known: Mapping[str, tuple[Any, Path]], kind: str, name: str) -> tuple[Any, Path]:
    if name not in known:
        raise unknown(f"{kind} of the kubeconfig", name, known)
    return known[name]


def _access(cluster: tuple[Any, Path], user: tuple[Any, Path]) -> Access:
    server = str(cluster[0].get("server", ""))
    parts = urlsplit(server)
    if cluster[0].get("insecure-skip-tls-verify"):
        raise UserError(f"{server}: insecure-skip-tls-verify would give the token to anybody; name its authority")
    if parts.scheme not in ("http", "https") or (parts.scheme == "http" and parts.hostname not in LOOPBACK):
        raise UserError(f"'{server}' is no address of an API server: https://HOST:PORT is possible")
    secrets, folder = _executed(user[0], user[1]) if "exec" in user[0] else user
    tls = _tls(cluster, (secrets, folder)) if parts.scheme == "https" else None
    token = secrets.get("token") or (_content(secrets, "tokenFile", folder).decode() if "tokenFile" in secrets else "")
    if "auth-provider" in secrets:
        raise UserError("auth-provider of the kubeconfig is no more: its successor is a user with exec")
    return Access(server.rstrip("/"), tls, _bearer(token) if token else {})


def _content(secrets: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """What ``KEY-data`` holds, or the file that ``KEY`` names; b'' for none."""
    if data := secrets.get(f"{key}-data"):
        return base64.b64decode(data)
    try:
        return (folder / Path(secrets[key]).expanduser()).read_bytes() if secrets.get(key) else b""
    except OSError as problem:
        raise UserError(f"{secrets[key]} of the kubeconfig cannot be read: {problem.strerror}") from None


def _tls(cluster: tuple[Any, Path], user: tuple[Any, Path]) -> ssl.SSLContext:
    authority = _content(cluster[0], "certificate-authority", cluster[1]).decode()
    certificate, key = _content(user[0], "client-certificate", user[1]), _content(user[0], "client-key", user[1])
    try:
        tls = ssl.create_default_context(cadata=authority or None)
        if certificate and key:
            with tempfile.TemporaryDirectory() as folder:  # 0700; ssl reads a certificate from files alone
                both = Path(folder) / "client.pem"
                both.write_bytes(certificate + b"\n" + key)
                tls.load_cert_chain(both)
    except (ssl.SSLError, ValueError) as problem:
        raise UserError(f"the certificates of the kubeconfig cannot be used: {problem}") from None
    return tls


def _executed(user: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], Path]:
    """What a credential plug-in (exec) gives: a token, or a certificate with its key."""
    asked = user["exec"]
    command = [str(asked["command"]), *map(str, asked.get("args") or [])]
    given = {item["name"]: str(item["value"]) for item in asked.get("env") or []}
    info = {"apiVersion": asked.get("apiVersion"), "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(f"{command[0]} of the kubeconfig gave no credentials: {reason}")
        status = json.loads(done.stdout)["status"]
    except OSError as problem:
        raise UserError(f"{command[0]} of the kubeconfig cannot be run: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} of the kubeconfig did not end within {COMMAND_S} s") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{command[0]} of the kubeconfig gave no ExecCredential") from None
    found = {"token": status.get("token")}
    for here, there in (("client-certificate", "clientCertificateData"), ("client-key", "clientKeyData")):
        if there in status:
            found[f"{here}-data"] = base64.b64encode(status[there].encode()).decode()
    return found, folder
