"""Connecting to Ray."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.cluster import connection
from cotuning_tune.cluster.connection import connected
from cotuning_tune.cluster.signals import ending_cleanly
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
