"""Images with the same bytes: where they stand, and what becomes of them where they stand in two given splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Place = tuple[str, int]  # split and position in it
Treatment = Literal["refuse", "drop", "keep"]
NOUNS = {"train": "training", "val": "validation", "test": "test"}
PAIRS = (("train", "test"), ("val", "test"), ("train", "val"))  # the first one's images are those left out


@dataclass(frozen=True)
class Contents:
    """The images of a split by name, class number, and a digest of their content ('': it cannot be read)."""

    names: Sequence[str]
    labels: Sequence[int]
    digests: Sequence[str]


@dataclass(frozen=True)
class Shared:
    """The examples of ``split`` that stand in ``other`` too: their positions, and the name of the first in either."""

    split: str
    other: str
    positions: list[int]
    example: tuple[str, str]
    noun: str = "images"

    @property
    def line(self) -> str:
        """The finding without its consequence."""
        count, (here, there) = len(self.positions), self.example
        what, other = NOUNS[self.split], NOUNS[self.other]
        if count == 1:
            return f"1 {what} {self.noun[:-1]} has the same bytes as a {other} {self.noun[:-1]}: {here} = {there}"
        return f"{count} {what} {self.noun} have the same bytes as {other} {self.noun}: {here} = {there}, ..."


def same_content(digests: Mapping[str, Sequence[str]]) -> list[list[Place]]:
    """All images by equal content, where there are two or more; splits and positions in the given order."""
    found: dict[str, list[Place]] = {}
    for split, of_split in digests.items():
        for position, digest in enumerate(of_split):
            if digest:
                found.setdefault(digest, []).append((split, position))
    return [places for places in found.values() if len(places) > 1]


def in_two_splits(digests: Mapping[str, Sequence[str]]) -> dict[str, set[int]]:
    """By split the positions of the images whose content stands in another split too."""
    found: dict[str, set[int]] = {split: set() for split in digests}
    for places in same_content(digests):
        if len({split for split, _ in places}) > 1:
            for split, position in places:
                found[split].add(position)
    return found


def shared(splits: Mapping[str, Contents], noun: str = "images") -> list[Shared]:
    """What the splits have in common: training and validation with test, training with validation."""
    alike = same_content({split: contents.digests for split, contents in splits.items()})
    found = []
    for split, other in PAIRS:
        twins: list[tuple[int, int]] = []
        for places in alike:
            there = [position for name, position in places if name == other]
            twins += [(position, there[0]) for name, position in places if there and name == split]
        if twins:
            twins.sort()
            example = splits[split].names[twins[0][0]], splits[other].names[twins[0][1]]
            found.append(Shared(split, other, [position for position, _ in twins], example, noun))
    return found


def consequence(found: Shared, treated: Treatment) -> str:
    """The finding with what becomes of it."""
    ends = {
        "refuse": 'a run refuses that (task.duplicates = "auto" or "refuse")',
        "drop": f"left out of {NOUNS[found.split]}",
        "keep": 'kept (task.duplicates = "drop" would leave them out)',
    }
    return f"{found.line}: {ends[treated]}"


def two_labels(splits: Mapping[str, Contents], class_names: Sequence[str]) -> list[str]:
    """A line for each split with images that stand in it twice or more, under different labels."""
    said = []
    for split, contents in splits.items():
        torn = []
        for places in same_content({split: contents.digests}):
            labels = {int(contents.labels[p]): contents.names[p] for _, p in places}
            if len(labels) > 1:
                torn.append([f"{name} ({class_names[label]})" for label, name in labels.items()])
        if torn:
            more = ", ..." if len(torn) > 1 else ""
            words = "content has" if len(torn) == 1 else "contents have"
            said.append(f"{len(torn)} {NOUNS[split]} {words} two labels: {' = '.join(torn[0])}{more}")
    return said
