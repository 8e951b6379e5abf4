"""Tags of tokens: BIO, IOB1 and BIOES, all read as BIO, whose B and I every metric here knows.

Which of the three a file is in need not be known: an entity begins where a tag says so (B, S, U), where its type is
another one than before, and behind a tag that ends one (E, L, S, U).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

OUTSIDE = "O"
TAG = re.compile(r"([BIESLU])-(\S+)")
BEGINS, ENDS = "BSU", "ESLU"


class UnknownTag(ValueError):  # noqa: N818 - what is wrong
    """A tag that is none; ``place``: where in the sentence."""

    def __init__(self, place: int, tag: str) -> None:
        super().__init__(f"the tag {tag!r} is neither {OUTSIDE} nor like B-PER, I-PER, E-PER or S-PER")
        self.place = place


def to_bio(tags: Sequence[str]) -> list[str]:
    """A sentence's tags as BIO. Raises UnknownTag.

    >>> to_bio(["I-PER", "I-PER", "O", "I-ORG", "B-ORG"])  # IOB1
    ['B-PER', 'I-PER', 'O', 'B-ORG', 'B-ORG']
    >>> to_bio(["B-PER", "E-PER", "S-LOC", "I-LOC"])  # BIOES, the last one continues nothing
    ['B-PER', 'I-PER', 'B-LOC', 'B-LOC']
    """
    found, open_type = [], ""
    for place, tag in enumerate(tags):
        if tag == OUTSIDE:
            found.append(OUTSIDE)
            open_type = ""
            continue
        parsed = TAG.fullmatch(tag)
        if parsed is None:
            raise UnknownTag(place, tag)
        prefix, kind = parsed.groups()
        found.append(f"{'B' if prefix in BEGINS or kind != open_type else 'I'}-{kind}")
        open_type = "" if prefix in ENDS else kind
    return found


def types_of(sentences: Iterable[Sequence[str]]) -> list[str]:
    """The types of entities in tagged sentences, sorted."""
    return sorted({tag[2:] for tags in sentences for tag in tags if tag != OUTSIDE})


def entity_counts(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    """How many entities of each type there are (BIO)."""
    return Counter(tag[2:] for tags in sentences for tag in tags if tag.startswith("B-"))


def rarity(counts: Mapping[str, int]) -> list[str]:
    """The types, the rarest first, of equals by name."""
    return sorted(counts, key=lambda kind: (counts[kind], kind))


def rarest_type(tags: Sequence[str], rare_first: Sequence[str]) -> str:
    """The first of these types that a sentence has an entity of, '' where it has none."""
    there = {tag[2:] for tag in tags if tag != OUTSIDE}
    return next((kind for kind in rare_first if kind in there), "")


def classes_of(types: Sequence[str]) -> tuple[str, ...]:
    """The classes of tokens: outside, then beginning and inside of each type."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))
