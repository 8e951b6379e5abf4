"""Which examples a step sees: batches of one size from one endless stream of permutations of the training split.

A batch may hold the end of one permutation and the beginning of the next (and an example twice), so that none is
smaller than the others. After any number of steps every example has been seen equally often, give or take one.
"""

import itertools
from collections.abc import Iterator

import torch

from cotuning_tune.base import seeding


def permutation(seed: int, number: int, examples: int) -> list[int]:
    """The permutation of that number: it follows from the seed alone."""
    return torch.randperm(examples, generator=seeding.generator_of(seed, "order", number)).tolist()


def places(seed: int, examples: int, batch: int, first: int, last: int) -> Iterator[list[int]]:
    """The places of the ``batch`` examples (at most ``examples``) of each step from ``first`` to before ``last``.

    They follow from seed and step: whoever begins at a later step gets the same batches.
    """
    number, begun = divmod(first * batch, examples)
    orders = (permutation(seed, n, examples) for n in itertools.count(number))
    stream = itertools.islice(itertools.chain.from_iterable(orders), begun, None)
    for _ in range(first, last):
        yield list(itertools.islice(stream, batch))
