"""Connecting to Ray."""

import os
import signal
import sys
from typing import Any

import pytest

from cotuning_tune.cluster import connected
from cotuning_tune.signals import ending_in_order


def test_a_signal_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's handlers, which stand meanwhile, would end the process as failed: it is an interruption as any other."""
    import ray

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    with ending_in_order():
        mine = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"), connected():
            raise AssertionError("it goes on")
        assert signal.getsignal(signal.SIGTERM) is mine
