"""Made-up sentences with people, places and firms in them: for tests, where no real text is needed."""

import random
from dataclasses import dataclass
from functools import cached_property

from cotuning_tune.data.text._text_set import TaggedSet, Texts
from cotuning_tune.hyper import at_least, hyper

SYLLABLES = ("ba", "do", "ke", "li", "mo", "nu", "ra", "sel", "tan", "vor")
TEMPLATES = (
    "PER went to LOC",
    "PER works at ORG in LOC",
    "the head of ORG met PER",
    "ORG opens an office in LOC",
    "it rained in LOC on monday",
    "PER and PER left ORG",
    "shares of ORG fell",
    "nothing new was said",
    "PER was born in LOC",
    "they like the sea",
)
ENDINGS = {"PER": ("an", "o", "is"), "LOC": ("ville", "burg", "ia"), "ORG": ("corp", "soft", "tec")}


def _name(kind: str, draws: random.Random) -> list[str]:
    """One or two words whose ending gives the type away, as far as a sub-word can."""
    words = ["".join(draws.choices(SYLLABLES, k=draws.randint(1, 2))) + draws.choice(ENDINGS[kind])]
    if draws.random() < 0.3:
        words.append("".join(draws.choices(SYLLABLES, k=2)) + draws.choice(ENDINGS[kind]))
    return [word.capitalize() for word in words]


def sentences(count: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """So many sentences, and their tags (BIO)."""
    draws = random.Random(f"synthetic_ner {seed}")  # nosec B311 # sentences, no secret
    words, tags = [], []
    for _ in range(count):
        words.append(list[str]())
        tags.append(list[str]())
        for word in draws.choice(TEMPLATES).split():
            entity = _name(word, draws) if word in ENDINGS else []
            words[-1] += entity or [word]
            tags[-1] += [f"{'I' if n else 'B'}-{word}" for n in range(len(entity))] or ["O"]
    return words, tags


class SyntheticNer(TaggedSet):
    """Sentences by ten templates, names by syllables."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        sentences: int = hyper(160, doc="training sentences; as many again to test")
        seed: int = hyper(0, doc="other sentences")

        def __post_init__(self) -> None:
            at_least(self, "data.synthetic_ner", sentences=20, seed=0)

    @cached_property
    def _splits(self) -> dict[str, Texts]:
        found = {}
        for number, split in enumerate(("train", "test"), 1):
            words, tags = sentences(self.config.sentences, 2 * self.config.seed + number)
            found[split] = Texts([f"{split} {n}" for n in range(len(words))], words, tags)
        return found

    def texts(self, split: str) -> Texts | None:
        return self._splits.get(split)
