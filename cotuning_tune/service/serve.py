"""Starts a service: its parts, its HTTP server, a one-time link for whoever has started it."""

import getpass
import ipaddress
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.service.boards import boards_app
from cotuning_tune.service.people import link
from cotuning_tune.service.rebuild import rebuild
from cotuning_tune.service.settings import Settings
from cotuning_tune.service.store import Store
from cotuning_tune.service.whole import Service

GRACE_S = 3


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where the service listens. Raises UserError for another address than this machine's own without TLS or a proxy.

    ``socket``: a Unix socket in place of host and port; ``proxy``: something in front ends TLS.
    """

    host: str = "127.0.0.1"
    port: int = 8585
    socket: str = ""
    certificate: str = ""
    key: str = ""
    proxy: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.port < (1 << 16) - 1:
            raise UserError(f"--port {self.port}: a port is a number from 1 to 65534")
        if bool(self.certificate) != bool(self.key):
            raise UserError("--certificate and --key belong together")
        if not (self.socket or self.certificate or self.proxy or _is_own(self.host)):
            raise UserError(
                f"--host {self.host} is reached by others, and tokens would go there unencrypted: give --certificate"
                " and --key, or --behind-proxy where a proxy ends TLS"
            )

    @property
    def boards(self) -> str:
        """The origin of TensorBoards: the next port."""
        return f"{self.address.rpartition(':')[0]}:{self.port + 1}"

    @property
    def address(self) -> str:
        """How a browser on this machine reaches it."""
        scheme = "https" if self.certificate else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.socket}" if self.socket else f"{scheme}://{host}:{self.port}"


def _listening(door: Door) -> dict[str, Any]:
    """What both servers have in common."""
    return {
        "host": door.host,
        "ssl_certfile": door.certificate or None,
        "ssl_keyfile": door.key or None,
        "proxy_headers": door.proxy,
        "forwarded_allow_ips": "127.0.0.1" if door.proxy else "",
        "log_level": "warning",
        "access_log": False,
        "timeout_graceful_shutdown": GRACE_S,
        "server_header": False,
    }


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def signed_link(settings: Settings, door: Door, user: str = "") -> str:
    """A one-time link for a user ('': who runs this), beside a service that may be active."""
    store = Store(settings.database, active=False)
    try:
        return f"{door.address}/sign-in/{link(store, user or _me(), time.time())}"
    finally:
        store.close()


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "admin"


def serve(
    settings: Settings, door: Door, say: Callable[[str], None], *, migrate: bool = False, restore: bool = False
) -> int:
    """Serve until SIGTERM or SIGINT; drivers stay. ``say`` is told where, and a one-time link. Raises UserError."""
    try:
        import uvicorn

        from cotuning_tune.service.http.app import make_app
    except ModuleNotFoundError as problem:
        raise UserError(f"the service needs {problem.name}: pip install 'cotuning_tune[serve]'") from None
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    service = Service(settings, migrate=migrate)
    try:
        if restore:
            taken, left = rebuild(service.store, settings, time.time())
            say("\n".join([f"{len(taken)} runs taken in", *(f"left out: {line}" for line in left)]))
        service.start()
        app = make_app(service)
        if door.socket:
            Path(door.socket).unlink(missing_ok=True)
        server = uvicorn.Server(uvicorn.Config(app, uds=door.socket or None, port=door.port, **_listening(door)))
        if service.boards_at or not (door.socket or door.proxy):
            service.boards_at = service.boards_at or door.boards
            boards = uvicorn.Config(boards_app(service.boards), port=door.port + 1, **_listening(door))
            threading.Thread(target=uvicorn.Server(boards).run, name="boards", daemon=True).start()
        say(f"{door.address} serves runs in {settings.storage}")
        say(f"sign in, once, within ten minutes: {signed_link(settings, door)}")
        server.run()
        return 0 if server.started else 1
    finally:
        service.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
