"""The stream of events (server-sent): what changes of runs, told to all who listen by one reader of the database."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from cotuning_tune.service.asked import Runs, shown_event
from cotuning_tune.service.http.answers import packed
from cotuning_tune.service.http.bodies import MOST_NUMBER, Asked, Who
from cotuning_tune.service.http.guard import actor
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import NotSignedIn, TooMany

router = APIRouter(tags=["events"])
LOOK_S, PROGRESS_S, QUIET_S, RECHECK_S = 0.25, 1.0, 15.0, 60.0
SLOW_S = 30.0  # how long a listener may take for what is sent to him
MOST_WAITING, MOST_LISTENERS, MOST_REPLAYED = 1000, 1000, 10_000
Row = dict[str, Any]


class Listener:
    """What waits to be sent to somebody; ``lost``: more than he takes, so he is dropped."""

    def __init__(self) -> None:
        self.waiting: deque[Row] = deque()
        self.lost = False
        self._come = asyncio.Event()

    def tell(self, row: Row) -> None:
        """One more."""
        self.lost = self.lost or len(self.waiting) >= MOST_WAITING
        if not self.lost:
            self.waiting.append(row)
        self._come.set()

    async def wait(self, seconds: float) -> None:
        """Until something has come, or so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._come.wait(), seconds)
        self._come.clear()


class Hub:
    """Reads the events once for all listeners, as long as there are any."""

    def __init__(self, runs: Runs) -> None:
        self.runs, self.listeners, self.seq = runs, set[Listener](), 0
        self._task: asyncio.Task[None] | None = None
        self._summaries: dict[str, object] = {}

    async def join(self, listener: Listener) -> int:
        """Tell him all that comes from now on; the number of the event before."""
        if not self.listeners:
            self.seq = (await anyio.to_thread.run_sync(self.runs.kept_events))[1]
        self.listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read())
        return self.seq

    def leave(self, listener: Listener) -> None:
        """Tell him no more."""
        self.listeners.discard(listener)

    async def _read(self) -> None:
        looked, since = 0.0, self.runs.now()
        while self.listeners:
            with suppress(Exception):  # a database that is away: the next look will see
                for row in await anyio.to_thread.run_sync(self.runs.told, self.seq):
                    self.seq = max(self.seq, row["seq"])
                    self._tell(row)
                if time.monotonic() - looked >= PROGRESS_S:
                    looked, now = time.monotonic(), self.runs.now()
                    for row in await anyio.to_thread.run_sync(self.runs.progress, since - PROGRESS_S):
                        self._progress(row)
                    since = now
            await asyncio.sleep(LOOK_S)
        self._summaries.clear()

    def _progress(self, row: Row) -> None:
        if row["summary"] and self._summaries.get(row["id"]) != row["summary"]:
            self._summaries[row["id"]] = row["summary"]
            content = {name: row[name] for name in ("state", "share", "summary")}
            told = {"seq": 0, "time": self.runs.now(), "run": row["id"], "kind": "progress", "content": content}
            self._tell(told | {"owner": row["owner"], "private": row["private"]})

    def _tell(self, row: Row) -> None:
        for listener in self.listeners:
            listener.tell(row)


class Stream(StreamingResponse):
    """Server-sent events; who does not take what is sent to him within half a minute is dropped."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def patient(message: Message) -> None:
            async with asyncio.timeout(SLOW_S):
                await send(message)

        try:
            with suppress(TimeoutError, ClientDisconnect):
                await super().__call__(scope, receive, patient)
        finally:
            await self.events.aclose()  # else he would be told until it is collected


def written(kind: str, content: object, seq: int = 0) -> bytes:
    """An event as it is sent; with a number, by which one can ask for those after it."""
    return (f"id: {seq}\n" if seq else "").encode() + f"event: {kind}\ndata: ".encode() + packed(content) + b"\n\n"


@router.get("/events", status_code=200, response_class=Stream)
async def events(
    request: Request,
    who: Who,
    service: Asked,
    last_event_id: Annotated[int | None, Header(ge=0, le=MOST_NUMBER)] = None,
    after: Annotated[int | None, Query(ge=0, le=MOST_NUMBER)] = None,
    run: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Events as they come (``state``, ``progress`` and others), after ``Last-Event-ID`` or ``after`` those before too.

    ``reset``: those asked for are not kept any more; read the lists again.
    """
    if run:
        await anyio.to_thread.run_sync(service.runs.get, who, run)
    hub: Hub = request.app.state.hub
    if len(hub.listeners) >= MOST_LISTENERS:
        raise TooMany(f"{MOST_LISTENERS} listen already", "ask for /api/v1/runs now and then instead")
    start = after if last_event_id is None else last_event_id

    def again() -> Actor:
        return actor(request)

    return Stream(_stream(hub, who, start, run, again))


async def _stream(
    hub: Hub, who: Actor, start: int | None, run: str, again: Callable[[], Actor]
) -> AsyncGenerator[bytes, None]:
    """What a listener is sent: what he asks for from before, then what comes."""
    listener, checked, told = Listener(), time.monotonic(), time.monotonic()

    def meant(row: Row) -> bool:
        return who.sees(row) and (not run or row["run"] in ("", run))

    seq = await hub.join(listener)
    try:
        yield b"retry: 3000\n\n"
        if start is not None:
            async for row in _before(hub.runs, start, seq, run):
                if meant(row):
                    yield _event(row)
        async for come in _coming(listener, seq):
            if time.monotonic() - checked >= RECHECK_S:
                who, checked = await anyio.to_thread.run_sync(again), time.monotonic()
            if come is not None and meant(come):
                yield _event(come)
                told = time.monotonic()
            elif time.monotonic() - told >= QUIET_S:
                yield b": still here\n\n"
                told = time.monotonic()
    except NotSignedIn as problem:
        yield written("signed out", problem.content())
    finally:
        hub.leave(listener)


async def _coming(listener: Listener, seq: int) -> AsyncIterator[Row | None]:
    """What comes after the event of that number, None where nothing comes for a while; until he is lost."""
    while not listener.lost:
        if not listener.waiting:
            await listener.wait(QUIET_S)
        row = listener.waiting.popleft() if listener.waiting else None
        if row is None or not row["seq"] or row["seq"] > seq:
            yield row
        seq = max(seq, row["seq"] if row else 0)


async def _before(runs: Runs, start: int, until: int, run: str) -> AsyncIterator[Row]:
    """The events after ``start`` up to ``until``; ``reset`` where some are not kept any more, or too many to send."""
    oldest, newest = await anyio.to_thread.run_sync(runs.kept_events)
    gone = start > max(newest, until) or (not run and (start < oldest - 1 or until - start > MOST_REPLAYED))
    if gone:
        told = {"seq": until, "time": runs.now(), "run": "", "kind": "reset", "content": {}}
        yield told | {"owner": "", "private": False}
        return
    while start < until:
        rows = await anyio.to_thread.run_sync(runs.told, start, 500, run)
        for row in rows:
            if row["seq"] <= until:
                yield row
        start = rows[-1]["seq"] if rows else until


def _event(row: Row) -> bytes:
    return written(row["kind"], shown_event(row), row["seq"])
