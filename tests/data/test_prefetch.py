"""Fetching ahead: the order stays, one is made in advance, and errors come in turn."""

import threading

import pytest

from cotuning_tune.data import ahead


def test_order_and_pairs() -> None:
    """Every item comes with what was made of it, in order; of nothing comes nothing."""
    assert list(ahead(lambda n: n * n, range(7))) == [(n, n * n) for n in range(7)]
    assert list(ahead(lambda n: n, [])) == []


def test_one_is_made_in_advance() -> None:
    """While the caller holds the first, the second is made, and no third."""
    made, second = [], threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if number == 1:
            second.set()
        return number

    batches = ahead(make, range(5))
    assert next(batches) == (0, 0)
    assert second.wait(10)
    assert made == [0, 1]
    batches.close()
    assert len(made) <= 2


def test_an_error_comes_in_its_turn() -> None:
    """What goes wrong while fetching is raised at its item, after the good ones."""
    batches = ahead(lambda n: 6 // n, [2, 3, 0])
    assert [next(batches), next(batches)] == [(2, 3), (3, 2)]
    with pytest.raises(ZeroDivisionError):
        next(batches)
