"""Connecting to Ray."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.cluster import connection
from cotuning_tune.cluster.connection import connected
from cotuning_tune.cluster.signals import ending_cleanly
from cotuning_tune.pipeline import Cluster
from tests.servers import free_port


def test_a_signal_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's handlers, which stand meanwhile, would end the process as failed: it is an interruption as any other."""
    import ray

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_RAYLET_PID", "1")
    with ending_cleanly():
        mine = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"), connected():
            raise AssertionError("it goes on")
        assert signal.getsignal(signal.SIGTERM) is mine


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that nothing answers at is one line, before Ray tries for minutes."""
    import ray

    monkeypatch.setattr(connection, "PATIENCE_S", 0.0)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray tries"))
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"), connected(address):
        raise AssertionError("connected")


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.9.0
    Python: 3.11.2
"""
SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.mark.parametrize(
    ("address", "problem", "error", "said"),
    [
        (
            "auto",
            RuntimeError(MISMATCH),
            UserError,
            "no Ray cluster to work on at auto: Version mismatch: .* Ray: 2.9.0",
        ),
        ("auto", ConnectionError("none\nmore"), UserError, "no Ray cluster to work on at auto: none more"),
        ("auto", ValueError("odd"), UserError, "no Ray cluster to work on at auto: odd"),
        (None, Exception(SLOW), Unfinished, "85"),
        (None, OSError(28, "No space left on device", "/tmp/ray"), OSError, "No space left on device"),
        (None, AssertionError("a fault"), AssertionError, "a fault"),
    ],
)
def test_what_ray_raises(
    monkeypatch: pytest.MonkeyPatch, address: str | None, problem: Exception, error: type[BaseException], said: str
) -> None:
    """A cluster that is none or has another version is the user's to correct; a start that is slow can be repeated."""
    import ray

    def init(**_: Any) -> None:
        raise problem

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(error, match=said) as caught, connected(address):
        raise AssertionError("connected")
    if isinstance(caught.value, Unfinished):
        assert caught.value.reason.startswith("Ray was not up in time on this machine (The current node timed out")


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:port", "h:0", "h:70000", "ray://h:1", "http://h:8265", ":1", "a b:1", "[x]:1"]
)
def test_what_is_no_address(address: str) -> None:
    """It is one line before anything is read or made, from the command line as from Python."""
    with pytest.raises(UserError, match=f"--address {re.escape(address)}: "):
        Cluster(address=address)
    with pytest.raises(UserError, match="--address "), connected(address):
        raise AssertionError("connected")


@pytest.mark.parametrize("address", [None, "", "auto", "head:6379", "10.0.0.1:6379", "[::1]:6379", "my_head.site:6379"])
def test_what_is_an_address(address: str | None) -> None:
    """It is taken as it is."""
    assert Cluster(address=address).address == address


SCRIPT = """
import os
from cotuning_tune.cluster.connection import connected
with connected(num_cpus=1):
    import ray
    @ray.remote
    def parent():
        return int(os.environ["RAY_RAYLET_PID"]) == os.getppid()
    print(int(os.environ["RAY_RAYLET_PID"]) == os.getpid(), ray.get(parent.remote()))
"""


@pytest.mark.proof
def test_whose_death_is_a_raylets() -> None:
    """A driver does not take its parent for the raylet, also where one was named before; a worker knows its raylet."""
    env = {**os.environ, "RAY_RAYLET_PID": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


LITTER = """
import gc, threading
from cotuning_tune.cluster.connection import connected

def allocate():
    shutting.wait()
    gc.set_threshold(50, 1, 1)
    while True:
        [[] for _ in range(100)]

shutting = threading.Event()
threading.Thread(target=allocate, daemon=True).start()
gc.set_threshold(100_000_000)
with connected(num_cpus=1):
    import ray
    for _ in range(20_000):
        held = {}
        held["itself"], held["object"] = held, ray.put(0)
    shutting.set()
print("ended in order")
"""


def test_garbage_that_refers_to_objects(tmp_path: Path) -> None:
    """Another thread that collects it while Ray shuts down (a tracker's) would end the driver with code 1, unheard."""
    done = subprocess.run([sys.executable, "-c", LITTER], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ended in order\n"), done.stderr
