"""TensorBoard on several runs side by side: a child process each, behind an address that only who asked for it knows.

The pages of TensorBoard run scripts of their own, so they have an origin of their own (another port), which knows no
session and no token of the service.
"""

import asyncio
import contextlib
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cotuning_tune.service.problems import TooMany

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MOST, IDLE_S, UP_S = 8, 30 * 60.0, 60.0
PASSED_ON = ("accept", "accept-encoding", "content-type", "range", "if-none-match")
DROPPED = ("connection", "transfer-encoding", "keep-alive", "server", "date", "set-cookie")
MOST_BODY = 1 << 20


@dataclass
class Board:
    """A TensorBoard that runs: its folder, socket and process, and when it was last asked."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    asked: float
    runs: tuple[str, ...] = field(default_factory=tuple)

    @property
    def socket(self) -> Path:
        return self.folder / "s"


class Boards:
    """The TensorBoards of a service, below ``root``, whose path is short enough for a socket. ``clock``: monotonic."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self.clock = root, clock
        self.open: dict[str, Board] = {}
        self._lock = threading.Lock()
        shutil.rmtree(root, ignore_errors=True)  # of a service before

    def begin(self, runs: dict[str, Path]) -> str:
        """The secret part of the address of a board on these runs (name by name their folders of events).

        The same runs have one board. Raises TooMany.
        """
        with self._lock:
            self._sweep()
            key = tuple(f"{name}={path}" for name, path in runs.items())
            for token, board in self.open.items():
                if board.runs == key:
                    board.asked = self.clock()
                    return token
            if len(self.open) >= MOST:
                raise TooMany(f"{MOST} TensorBoards are open", "close one of their pages: it ends half an hour later")
            token, folder = secrets.token_urlsafe(32), self.root / secrets.token_hex(4)
            (folder / "runs").mkdir(mode=0o700, parents=True)
            for name, path in runs.items():
                (folder / "runs" / name).symlink_to(path, target_is_directory=True)
            words = [str(folder / "s"), str(folder / "runs"), f"/{token}"]
            process = subprocess.Popen(
                [sys.executable, "-m", "cotuning_tune.service.board", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self.open[token] = Board(folder, process, self.clock(), key)
            return token

    def find(self, token: str) -> Board | None:
        """The board of an address, which counts as asked for now."""
        with self._lock:
            self._sweep()
            if board := self.open.get(token):
                board.asked = self.clock()
            return board

    def _sweep(self) -> None:
        """End those that nobody has asked for half an hour, and forget those that have died."""
        for token, board in list(self.open.items()):
            if board.process.poll() is not None or self.clock() - board.asked > IDLE_S:
                self._end(board)
                del self.open[token]

    def _end(self, board: Board) -> None:
        board.process.kill()
        board.process.wait()
        shutil.rmtree(board.folder, ignore_errors=True)

    def close(self) -> None:
        """End all."""
        with self._lock:
            for board in self.open.values():
                self._end(board)
            self.open.clear()


def boards_app(boards: Boards) -> "Starlette":
    """The application of the second origin: whatever is asked for below ``/TOKEN/`` goes to that board."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def passed_on(request: "Request") -> "Response":
        return await _passed_on(boards, request)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        boards.close()

    route = Route("/{token}/{path:path}", passed_on, methods=["GET", "HEAD", "POST"])
    return Starlette(routes=[route], lifespan=lifespan)


async def _passed_on(boards: Boards, request: "Request") -> "Response":
    import httpx
    from starlette.responses import PlainTextResponse, StreamingResponse

    board = await asyncio.to_thread(boards.find, request.path_params["token"])
    if board is None:
        return PlainTextResponse("This TensorBoard has ended: open it again from the service's page.\n", 404)
    body = await _body(request)
    if body is None:
        return PlainTextResponse("Too large.\n", 413)
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(board.socket)), timeout=UP_S)
    url = f"http://board{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
    deadline = time.monotonic() + UP_S
    while True:  # until it is up
        try:
            answer = await client.send(
                client.build_request(request.method, url, headers=headers, content=body), stream=True
            )
            break
        except httpx.TransportError:
            if board.process.poll() is not None or time.monotonic() > deadline:
                await client.aclose()
                return PlainTextResponse("This TensorBoard has failed: open it again.\n", 502)
            await asyncio.sleep(0.2)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_raw():
                yield piece
        finally:
            await answer.aclose()
            await client.aclose()

    said: dict[str, Any] = {k: v for k, v in answer.headers.items() if k.lower() not in DROPPED}
    return StreamingResponse(pieces(), answer.status_code, said | {"Referrer-Policy": "no-referrer"})


async def _body(request: "Request") -> bytes | None:
    """The body of a request; None of one that is too large."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > MOST_BODY:
            return None
    return bytes(found)
