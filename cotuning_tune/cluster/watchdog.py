"""Ends a driver whose cluster has gone: Tune's loop would wait for ever."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 5.0
ANSWER_S = 5.0
MISSES = 3
UNFINISHED = 85

Address = tuple[str, int]


def answers(address: Address) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection(address, timeout=ANSWER_S):
            return True
    except OSError:
        return False


def cluster_addresses() -> list[Address]:
    """Where the connected cluster's head and this driver's own raylet listen."""
    import ray

    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    mine = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return [(host.strip("[]"), int(port)), (mine["NodeManagerAddress"], int(mine["NodeManagerPort"]))]


def _watch(addresses: list[Address], stopped: threading.Event, lost: Callable[[Address], None]) -> None:
    missed = dict.fromkeys(addresses, 0)
    while not stopped.wait(EVERY_S):
        for address in addresses:
            missed[address] = 0 if answers(address) else missed[address] + 1
            if missed[address] >= MISSES:
                lost(address)
                return


def _exit(say: Callable[[str], None]) -> Callable[[Address], None]:
    def lost(address: Address) -> None:
        say(f"the Ray cluster has gone ({address[0]}:{address[1]} does not answer)")
        time.sleep(0.1)
        os._exit(UNFINISHED)

    return lost


@contextmanager
def watchdog(say: Callable[[str], None]) -> Iterator[None]:
    """While inside, end this process with exit code 85 within about 30 s of the cluster's death.

    The run's lock stays behind with a dead owner: the next driver takes it over.
    """
    stopped = threading.Event()
    arguments = (cluster_addresses(), stopped, _exit(say))
    threading.Thread(target=_watch, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
