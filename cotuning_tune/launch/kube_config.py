"""Where the Kubernetes API server is and how one proves to be somebody there, by lightkube.

A kubeconfig as kubectl reads it (certificates, token, or a command that makes one), or the service account of the
pod that this runs in. What lightkube would believe, or does not do, stands here: several files, refusals, and
credential plug-ins (it knows neither their version v1 nor certificates, and waits for them for ever).
"""

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cotuning_tune.base.errors import UserError, first_line, unknown

if TYPE_CHECKING:
    import httpx2
    from lightkube.config.kubeconfig import SingleConfig

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
COMMAND_S = 60
ANSWER_S = 20.0


def open_server(kubeconfig: str = "", context: str = "", account: Path = SERVICE_ACCOUNT) -> "httpx2.Client":
    """The server of a kubeconfig (``KUBECONFIG``, ``~/.kube/config``), or of the pod's account. Raises UserError."""
    try:
        import lightkube  # noqa: F401
    except ImportError:
        raise UserError("Kubernetes is reached by lightkube: pip install 'cotuning_tune[k8s]'") from None
    named = kubeconfig or os.environ.get("KUBECONFIG", "")
    paths = [Path(part).expanduser() for part in (named or "~/.kube/config").split(os.pathsep) if part]
    if found := [path for path in paths if path.is_file()]:
        return _of_files(found, context)
    if named:
        raise UserError(f"the kubeconfig {named} cannot be read: there is no such file")
    pod = all((account / name).is_file() for name in ("token", "namespace"))
    if pod and "KUBERNETES_SERVICE_HOST" in os.environ:
        from lightkube import KubeConfig

        return _client(KubeConfig.from_service_account(account).get())
    raise UserError("no kubeconfig: set KUBECONFIG, or the profile's kubeconfig (it is what kubectl uses)")


def _of_files(paths: list[Path], context: str) -> "httpx2.Client":
    from lightkube import KubeConfig

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
    cluster = _located(*_named(lists["clusters"], "cluster", str(chosen.get("cluster"))))
    _check_server(cluster)
    user = _user(*_named(lists["users"], "user", str(chosen["user"]))) if chosen.get("user") else {}
    made = {
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    try:
        config = KubeConfig.from_dict(made).get("it")
    except ValueError as problem:  # msgspec: a value of another type
        raise UserError(f"{paths[0]} is not a kubeconfig: {first_line(problem)}") from None
    return _client(config, cluster.get("proxy-url"))


def _named(known: Mapping[str, tuple[Any, Path]], kind: str, name: str) -> tuple[Any, Path]:
    if name not in known:
        raise unknown(f"{kind} of the kubeconfig", name, known)
    return known[name]


def _located(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A cluster or user with the full paths of its files, which must be readable; ``KEY-data`` goes before ``KEY``."""
    found = {key: value for key, value in item.items() if value and not item.get(f"{key}-data")}
    for key in found.keys() & set(FILES):
        path = folder / Path(found[key]).expanduser()
        try:
            path.open("rb").close()
        except OSError as problem:
            raise UserError(f"{found[key]} of the kubeconfig cannot be read: {problem.strerror}") from None
        found[key] = str(path)
    return found


def _check_server(cluster: Mapping[str, Any]) -> None:
    server = str(cluster.get("server", ""))
    parts = urlsplit(server)
    if cluster.get("insecure-skip-tls-verify"):
        raise UserError(f"{server}: insecure-skip-tls-verify would give the token to anybody; name its authority")
    if parts.scheme not in ("http", "https") or (parts.scheme == "http" and parts.hostname not in LOOPBACK):
        raise UserError(f"'{server}' is not the address of an API server: https://HOST:PORT is possible")


def _user(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A user whose credential plug-in has been run. Raises UserError for what proves nobody."""
    if "auth-provider" in item:
        raise UserError("auth-provider in the kubeconfig is no longer supported: use a user with exec")
    user = _located(item, folder)
    if "exec" in user:
        user |= _executed(user.pop("exec"), folder)
    if "token" in user:
        user["token"] = str(user["token"]).strip()
    if any("client-cert" in key for key in user) and not any("client-key" in key for key in user):
        raise UserError("the kubeconfig names a client-certificate without its client-key")
    return user


def _client(config: "SingleConfig | None", proxy: str | None = None) -> "httpx2.Client":
    """It knows the server's authority and shows our credentials; it keeps no connection, and follows no redirect."""
    import httpx2
    from lightkube.config.client_adapter import Client, ConnectionParams

    assert config is not None
    try:
        client = Client(config, ConnectionParams(timeout=httpx2.Timeout(ANSWER_S), proxy=proxy))
    except (OSError, ValueError, ImportError, httpx2.InvalidURL) as problem:  # ssl.SSLError is an OSError
        what = "server, certificates or proxy of the kubeconfig"
        raise UserError(f"{what} cannot be used: {first_line(problem)}") from None
    client.headers["Connection"] = "close"
    return client


def _executed(asked: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """What a credential plug-in (exec) gives: a token, or a certificate with its key."""
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
        found = {"token": status["token"]} if status.get("token") else {}
        for here, there in (("client-certificate", "clientCertificateData"), ("client-key", "clientKeyData")):
            if there in status:
                found[f"{here}-data"] = base64.b64encode(status[there].encode()).decode()
        return found
    except OSError as problem:
        raise UserError(f"{command[0]} of the kubeconfig cannot be run: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} of the kubeconfig did not end within {COMMAND_S} s") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{command[0]} of the kubeconfig gave no ExecCredential") from None
