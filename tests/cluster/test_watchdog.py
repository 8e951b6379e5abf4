"""A driver's look at whether its cluster still answers."""

import threading

import pytest

from cotuning_tune.cluster import watchdog


class Looks(threading.Event):
    """Counts how often it is waited for, and does not wait."""

    count = 0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout == watchdog.EVERY_S
        self.count += 1
        return self.is_set()


def test_lost_after_misses_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers again has not gone; which address is lost is told, after as many looks as fit into a minute."""
    head, raylet = ("head", 1), ("here", 2)
    missing = {head: (2, 3), raylet: (3, 4, 5)}
    looks, lost = Looks(), list[watchdog.Address]()
    monkeypatch.setattr(watchdog, "answers", lambda address: looks.count not in missing[address])
    watchdog._watch([head, raylet], looks, lost.append)
    assert (lost, looks.count) == ([raylet], 5)
    assert watchdog.MISSES * (watchdog.EVERY_S + 2 * watchdog.ANSWER_S) < 60
