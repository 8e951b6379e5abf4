"""The service under load: lists out of 10,000 runs, 200 listeners to events, 50 runs adopted.

``python benchmarks/service.py``: a real server (SQLite) with drivers that do nothing, asked over HTTP on this machine.
Unlike other rows these are times against bounds, for there is no other way to compare with.
"""

import asyncio
import json
import multiprocessing
import secrets
import socket
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import sqlalchemy as sa

from cotuning_tune.service.engine import Look, Row
from cotuning_tune.service.people import Actor, add_token
from cotuning_tune.service.reconciler import Reconciler
from cotuning_tune.service.settings import Place, Settings
from cotuning_tune.service.states import Seen
from cotuning_tune.service.store import Store, tell
from cotuning_tune.service.tables import RUN, USER

RESULTS = Path(__file__).parent / "results"  # pairs.py loads torch, which the server does not
RUNS, LISTENERS, RUNNING, EVENTS = 10_000, 200, 20, 400
LOOKS = 300


class Idle:
    """Drivers that run for ever and do nothing."""

    def capacity(self, backend: str) -> float:
        return float(RUNNING)

    def look(self, run: Row) -> Look:
        return Look(Seen(driver=True, engine="running", progress=1), running=1, share=1)

    def start(self, run: Row) -> None:
        """Nothing."""

    stop = forestall = grow = note = start

    def give(self, run: Row, share: int) -> None:
        """Nothing."""

    def log(self, run: Row) -> Path | None:
        return None


def settings_in(root: Path) -> Settings:
    """One local backend."""
    return Settings(
        root, str(root / "runs"), f"sqlite:///{root / 'service.db'}", (), places=(Place("here", "local", RUNNING),)
    )


def fill(root: Path) -> str:
    """A database of so many runs of ten people, twenty of them running; a token of an admin."""
    store, now = Store(settings_in(root).database), time.time()
    summary = {"state": "done", "done": 160, "budget": 160, "best": {f"study{n}": 70.0 + n for n in range(5)}}
    experiment = "[experiment]\n" + "# an experiment of two kilobytes\n" * 60
    with store.writing() as connection:
        for number in range(10):
            row = {"name": f"person{number}", "role": "admin" if number == 0 else "member", "created": now}
            connection.execute(USER.insert().values(**row))
        rows = [_row(number, now, summary, experiment) for number in range(RUNS)]
        connection.execute(sa.insert(RUN), rows)
    token: str = add_token(store, Actor("person0", "admin"), now)["token"]
    store.close()
    return token


def _row(number: int, now: float, summary: dict[str, object], experiment: str) -> dict[str, object]:
    state = "running" if number < RUNNING else "done"
    row = {
        "id": secrets.token_hex(6),
        "owner": f"person{number % 10}",
        "name": f"run{number}",
        "folder": f"/r/{number}",
    }
    row |= {"backend": "here", "experiment": experiment, "content": {"trials": 32, "hours": 0.0}, "labels": {"a": "b"}}
    row |= {"state": state, "attempt": 1, "summary": summary, "created": now, "changed": now, "since": now}  # type: ignore[dict-item]
    return row


def serve(root: Path, port: int) -> None:
    """A server in a process of its own."""
    import uvicorn

    from cotuning_tune.service.http.app import make_app
    from cotuning_tune.service.whole import Service

    service = Service(settings_in(root), Idle())
    service.reconciler.start()
    uvicorn.run(make_app(service), port=port, log_level="error", access_log=False)


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(times, n=20)[-1]


def lists(client: httpx.Client) -> dict[str, float]:
    """Seconds of lists: 50 of the newest, one owner's, by a text, and 1,000 walked by 200."""

    def timed(path: str) -> float:
        start = time.perf_counter()
        client.get(path).raise_for_status()
        return time.perf_counter() - start

    paths = {"50 newest": "", "of an owner": "?owner=person3", "by text": "?text=run77", "by label": "?label=a=b"}
    found = {name: p95([timed(f"/runs{query}") for _ in range(LOOKS)]) for name, query in paths.items()}
    walked, cursor = [], ""
    for _ in range(LOOKS // 5):
        start = time.perf_counter()
        page = client.get("/runs", params={"limit": 200, "cursor": cursor}).raise_for_status().json()
        walked.append(time.perf_counter() - start)
        cursor = page["next"]
    return found | {"1,000 walked by 200": p95(walked)}


async def listen(url: str, token: str, root: Path) -> tuple[float, int]:
    """Seconds (95th percentile) from an event's writing until each of the listeners has it; how many came."""
    late: list[float] = []
    headers = {"Authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
        ready = asyncio.Semaphore(0)

        async def one() -> None:
            got = 0
            async with client.stream("GET", "/events") as answer:
                ready.release()
                async for line in answer.aiter_lines():
                    if line.startswith("data:") and (found := json.loads(line[5:])).get("kind") == "bench":
                        late.append(time.time() - found["time"])
                        got += 1
                        if got == EVENTS:
                            return

        tasks = [asyncio.create_task(one()) for _ in range(LISTENERS)]
        for _ in tasks:
            await ready.acquire()
        await asyncio.sleep(1.0)
        await asyncio.to_thread(speak, root)
        await asyncio.wait(tasks, timeout=60)
        for task in tasks:
            task.cancel()
    return p95(late), len(late)


def speak(root: Path) -> None:
    """Twenty events a second, one of each running run."""
    store = Store(settings_in(root).database, active=False)
    with store.reading() as connection:
        runs = list(connection.execute(sa.select(RUN.c.id).where(RUN.c.state == "running")).scalars())
    for number in range(EVENTS):
        with store.writing() as connection:
            tell(connection, time.time(), runs[number % len(runs)], "bench", {"number": number})
        time.sleep(1 / 20)
    store.close()


def adopted(root: Path) -> float:
    """Seconds of the first round of a service that finds 50 runs at work."""
    store = Store(settings_in(root).database)
    with store.writing() as connection:
        some = sa.select(RUN.c.id).where(RUN.c.state == "done").limit(50 - RUNNING)
        connection.execute(RUN.update().where(RUN.c.id.in_(some)).values(state="running"))
    reconciler = Reconciler(store, Idle())
    start = time.perf_counter()
    reconciler.round()
    took = time.perf_counter() - start
    reconciler.stop()
    store.close()
    return took


def memory(pid: int) -> float:
    """MiB that a process has had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Print every figure beside its bound, and keep them."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        token = fill(root)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(root, port), daemon=True)
        server.start()
        url, headers = f"http://127.0.0.1:{port}/api/v1", {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            while True:
                try:
                    client.get("/me").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            rows = [(f"{name}, p95", took, 0.1) for name, took in lists(client).items()]
        late, came = asyncio.run(listen(url, token, root))
        rows.append((f"{LISTENERS} listeners, an event until it is there, p95", late, 1.0))
        size = memory(server.pid or 0)
        server.kill()
        server.join()
        rows.append(("50 runs adopted", adopted(root), 10.0))
    for name, took, bound in rows:
        print(f"{name}: {took:.3f} s (bound {bound:g} s)")
    print(f"{came} of {LISTENERS * EVENTS} events came; the server had {size:.0f} MiB at most (bound 200 MiB)")
    kept = {name: {"seconds": round(took, 4), "bound": bound} for name, took, bound in rows}
    kept["memory"] = {"MiB": round(size), "bound": 200, "events": came}  # type: ignore[dict-item]
    (RESULTS / "service-cpu.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
