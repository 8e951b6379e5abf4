"""Which images are sampled, and which are held out: by the hash of (purpose, seed, name), in whole groups.

A group is what must not be torn apart: images of one group of the data set (a patient, say), and images with the same
bytes. It has the hash of the smallest of its names, so a set without groups and duplicates is split image by image.
"""

import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cotuning_tune.base.errors import UserError


class Named(Protocol):
    """Images by a stable name, with a class number each: all that splitting looks at."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def labels(self) -> Sequence[int]: ...


def composed(name: str) -> str:
    """The name as it is hashed: a copy made by another system splits alike."""
    return unicodedata.normalize("NFC", name)


def _order(listing: Named, positions: Sequence[int], seed: int | str, purpose: str) -> list[int]:
    def key(position: int) -> str:
        text = f"{purpose}/{seed}/{composed(listing.names[position])}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    return sorted(positions, key=key)


def _by_class(listing: Named, positions: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for position in positions:
        found.setdefault(int(listing.labels[position]), []).append(position)
    return found


def sample(listing: Named, rate: float, seed: int, among: Sequence[int] | None = None) -> list[int]:
    """Positions of ``ceil(rate * n)`` images of each class, in the listing's order; of those ``among`` where given."""
    kept: list[int] = []
    for members in _by_class(listing, range(len(listing.names)) if among is None else among).values():
        count = max(1, math.ceil(rate * len(members) - 1e-9))
        kept += _order(listing, members, seed, "sample")[:count]
    return sorted(kept)


def grouped(names: Sequence[str], *keys: Sequence[str] | None) -> list[int] | None:
    """The group of each image, as the position of its smallest name; None where every image is its own.

    ``keys``: images with an equal key, '' excepted, are of one group; so are those that others tie together.
    """
    parent = list(range(len(names)))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    tied = False
    for of_images in filter(None, keys):
        first: dict[str, int] = {}
        for position, key in enumerate(of_images):
            if key and (other := first.setdefault(key, position)) != position:
                parent[root(position)], tied = root(other), True
    if not tied:
        return None
    smallest: dict[int, int] = {}
    for position in sorted(range(len(names)), key=lambda p: composed(names[p])):
        smallest.setdefault(root(position), position)
    return [smallest[root(position)] for position in range(len(names))]


def _commonest(listing: Named, members: Sequence[int]) -> int:
    """The most frequent class of a group, of equals the first one."""
    if len(members) == 1:
        return int(listing.labels[members[0]])
    counts = Counter(int(listing.labels[p]) for p in members)
    return min(counts, key=lambda label: (-counts[label], label))


class _Drawing:
    """The drawing of whole groups; what is taken leaves an image of each class behind."""

    def __init__(self, listing: Named, positions: Sequence[int], groups: Sequence[int] | None) -> None:
        self.listing, self.taken = listing, list[int]()
        self.members: dict[int, list[int]] = {}
        for position in positions:
            self.members.setdefault(position if groups is None else groups[position], []).append(position)
        self.left = Counter(int(listing.labels[p]) for p in positions)

    def by_class(self) -> dict[int, list[int]]:
        """The groups of each class."""
        found: dict[int, list[int]] = {}
        for group, members in self.members.items():
            found.setdefault(_commonest(self.listing, members), []).append(group)
        return found

    def take(self, group: int) -> int:
        """How many images the group has, all taken; 0 where a class would lose its last."""
        counts = Counter(int(self.listing.labels[p]) for p in self.members[group])
        if any(self.left[label] <= count for label, count in counts.items()):
            return 0
        self.left -= counts
        self.taken += self.members[group]
        return len(self.members[group])


def draw(
    listing: Named,
    positions: Sequence[int],
    wanted: Callable[[Sequence[int]], int],
    seed: int | str,
    groups: Sequence[int] | None = None,
) -> list[int]:
    """The positions held out, sorted: of each class about ``wanted(its positions)`` images, in whole groups.

    Groups are taken in the order of their hash, each where it brings the number nearer; where none does, the smallest.
    A group of several classes counts for its most frequent one. Every class keeps an image.
    """
    drawing = _Drawing(listing, positions, groups)
    for of_class in drawing.by_class().values():
        size = {group: len(drawing.members[group]) for group in of_class}
        target, held = wanted([p for group in of_class for p in drawing.members[group]]), 0
        order = _order(listing, of_class, seed, "validation")
        for group in order:
            if abs(held + size[group] - target) < abs(held - target):
                held += drawing.take(group)
        for group in sorted(order, key=size.__getitem__) if target and len(order) > 1 else ():
            held = held or drawing.take(group)
    return sorted(drawing.taken)


def hold_out(
    listing: Named, positions: Sequence[int], fraction: float, seed: int | str, groups: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Training and validation positions; of each class the rounded fraction, at least one of two or more.

    ``groups``: as ``grouped`` gives them; none is torn apart (see ``draw``).
    """

    def wanted(of_class: Sequence[int]) -> int:
        return min(max(round(fraction * len(of_class)), 1), len(of_class) - 1)

    held = draw(listing, positions, wanted, seed, groups)
    chosen = set(held)
    return sorted(p for p in positions if p not in chosen), held


def as_many(listing: Named, positions: Sequence[int], counts: Mapping[int, int]) -> Callable[[Sequence[int]], int]:
    """For ``draw`` from these positions: ``counts`` images of each class; in proportion where groups mix classes."""
    there = Counter(int(listing.labels[p]) for p in positions)
    return lambda of_class: round(sum(counts.get(c := int(listing.labels[p]), 0) / there[c] for p in of_class))


def single(labels: Sequence[int]) -> str:
    """Why no image can be held out of those of these classes."""
    if max(Counter(map(int, labels)).values(), default=0) < 2:
        return "every class has a single training image"
    return "the training images of every class are of one group, or have the same bytes"


def no_validation(
    name: str, rate: float, labels: Sequence[int], *, published: bool, dropped: bool = False
) -> UserError:
    """What is said where no image is left for validation beside training images of these classes.

    ``published``: the data set has a split for it; ``dropped``: of which images were left out because they stand in the
    test split too.
    """
    cure = "give more images" if rate == 1 else "give more images or a higher rate"
    reason = f"{single(labels)}: {cure}"
    if published:
        empty = "is empty without the images of the test split" if dropped else "is empty"
        reason = f"its validation split {empty}: fill it, or remove it to have one split off the training split"
    return UserError(f"{name} at {100 * rate:g} %: there is no image for validation, {reason}")
