"""Which examples a step sees: batches of one size from one endless stream of permutations of the training split.

A batch may hold the end of one permutation and the beginning of the next (and an example twice), so that none is
smaller than the others. After any number of steps every example has been seen equally often, give or take one.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch

from cotuning_tune.base import seeding

WINDOW = 16  # batches


def permutation(seed: int, number: int, examples: int) -> list[int]:
    """The permutation of that number: it follows from the seed alone."""
    return torch.randperm(examples, generator=seeding.generator_of(seed, "order", number)).tolist()


def places(
    seed: int, examples: int, batch: int, first: int, last: int, sizes: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """The places of the ``batch`` examples (at most ``examples``) of each step from ``first`` to before ``last``.

    They follow from seed and step: whoever begins at a later step gets the same batches. ``sizes``: how long each
    example is; batches then hold examples of about one length: those of ``WINDOW`` steps (of one pass) are sorted
    by it and dealt out in another order.
    """
    if sizes is None:
        yield from _stream(seed, examples, batch, first, last)
        return
    passes = max(1, round(examples / batch))
    for start in range(first // passes * passes, last, passes):
        for begin in range(start, start + passes, WINDOW):
            end = min(begin + WINDOW, start + passes)
            if begin < last and end > first:
                yield from _alike(seed, examples, batch, range(begin, end), range(first, last), sizes)


def _alike(
    seed: int, examples: int, batch: int, window: range, asked: range, sizes: Sequence[int]
) -> Iterator[list[int]]:
    """The batches of a window of steps, as far as they are asked for: its examples by size, in another order."""
    drawn = itertools.chain.from_iterable(_stream(seed, examples, batch, window.start, window.stop))
    by_size = sorted(drawn, key=lambda place: sizes[place])
    generator = seeding.generator_of(seed, "lengths", window.start)
    for step, number in zip(window, torch.randperm(len(window), generator=generator).tolist(), strict=True):
        if step in asked:
            yield by_size[number * batch : (number + 1) * batch]


def _stream(seed: int, examples: int, batch: int, first: int, last: int) -> Iterator[list[int]]:
    number, begun = divmod(first * batch, examples)
    orders = (permutation(seed, n, examples) for n in itertools.count(number))
    stream = itertools.islice(itertools.chain.from_iterable(orders), begun, None)
    for _ in range(first, last):
        yield list(itertools.islice(stream, batch))
