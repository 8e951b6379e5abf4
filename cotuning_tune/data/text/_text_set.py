"""Data sets of texts: sentences whose words are tagged, or texts with one class each."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from cotuning_tune.base.errors import UserError
from cotuning_tune.data._data_set import DataSet, Listing, TaskConfig
from cotuning_tune.data._duplicates import Contents
from cotuning_tune.data._examples import Views, Words
from cotuning_tune.data.text._tags import OUTSIDE, classes_of, entity_counts, rarest_type, rarity, types_of
from cotuning_tune.data.text._tokens import TokenExamples, Tokens, TokenViews
from cotuning_tune.scores import CLASSES, ENTITIES

PLAIN = "no entity"  # the stratum of sentences without any


@dataclass(frozen=True)
class Texts:
    """Texts of a split by a stable name, as words, with a class for each word, or one (``whole``) for all.

    ``groups``: what must not be torn apart (a document), '' alone; ``notes``: lines for people.
    """

    names: Sequence[str]
    words: Sequence[Sequence[str]]
    classes: Sequence[Sequence[str]]
    groups: Sequence[str] | None = None
    notes: Sequence[str] = field(default_factory=list)

    def some(self, positions: Sequence[int]) -> "Texts":
        """Those at these positions."""
        groups = None if self.groups is None else [self.groups[p] for p in positions]
        names = [self.names[p] for p in positions]
        words, classes = ([part[p] for p in positions] for part in (self.words, self.classes))
        return Texts(names, words, classes, groups, self.notes)

    @cached_property
    def digests(self) -> list[str]:
        """A key of the words of each."""
        return [hashlib.sha256(json.dumps(list(words)).encode()).hexdigest() for words in self.words]


class TextSet(DataSet):
    """A data set of texts. A subclass says which texts a split has; they are tokenised when a task reads them."""

    modality = "text"
    repeats = True
    whole: ClassVar[bool] = False

    def __init__(self, config: Any, stored_size: int) -> None:
        super().__init__(config, stored_size)
        self._words: Words | None = None
        self._max_length = 0

    @abstractmethod
    def texts(self, split: str) -> Texts | None:
        """The texts of ``train``, ``val`` or ``test``; None where there is no such split. Read once by the subclass.

        Raises UserError with file and line.
        """

    def prepare(self, config: TaskConfig, words: Words | None) -> None:
        self._words, self._max_length = words, config.max_length
        self.decoder = "" if words is None else f"sub-words {words.key[:16]}"

    @classmethod
    def views(cls, config: TaskConfig) -> Views:
        return TokenViews(config.max_length)

    @property
    @abstractmethod
    def strata(self) -> tuple[str, ...]: ...

    @abstractmethod
    def stratum(self, classes: Sequence[str]) -> int:
        """The stratum of a text with these classes."""

    def check(self) -> None:
        for split in ("train", "val", "test"):
            if (found := self.texts(split)) is not None:
                self._numbers(found)
        if not self._there("test").names:
            raise UserError(f"{type(self).__name__} has no test {self.noun[:-1]}")

    def not_taken(self) -> list[str]:
        return [note for split in ("train", "val", "test") if (f := self.texts(split)) is not None for note in f.notes]

    def contents(self, split: str) -> Contents | None:
        found = self.texts(split)
        return None if found is None else Contents(found.names, self._labels(found), found.digests)

    def train(self) -> Listing:
        return self._listing(self._there("train"))

    def val(self) -> Listing | None:
        found = self.texts("val")
        return None if found is None else self._listing(found)

    def test(self) -> Listing:
        return self._listing(self._there("test"))

    def _there(self, split: str) -> Texts:
        found = self.texts(split)
        if found is None:
            raise UserError(f"{type(self).__name__} has no {split} split")
        return found

    def _labels(self, found: Texts) -> list[int]:
        return [self.stratum(classes) for classes in found.classes]

    def _numbers(self, found: Texts) -> np.ndarray:
        """The classes of all words of a split, in order. Raises UserError for one that training does not have."""
        known = {name: number for number, name in enumerate(self.class_names)}
        for name, classes in zip(found.names, found.classes, strict=True):
            if strange := next((one for one in classes if one not in known), None):
                raise UserError(f"{name}: the class {strange!r} stands in no training {self.noun[:-1]}")
        return np.array([known[one] for classes in found.classes for one in classes], np.int64)

    def _listing(self, found: Texts) -> Listing:
        if self._words is None:
            raise UserError(f"{type(self).__name__} is a set of texts: what is asked here is known of images alone")
        tokens, key = Tokens.cached(found.words, self._words, self._max_length, whole=self.whole)
        examples = TokenExamples(tokens, self._numbers(found), key, found.digests, self._words.pad)
        return Listing(found.names, self._labels(found), examples, found.groups)


class TaggedSet(TextSet):
    """Sentences whose words are tagged (BIO): named entities. Split by the rarest type of entity in a sentence."""

    noun = "sentences"
    metric = "entity_f1"
    metrics = ENTITIES

    @cached_property
    def _rare_first(self) -> list[str]:
        """The types of training, the rarest first."""
        return rarity(entity_counts(self._there("train").classes))

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types of entities in the training split, sorted. Raises UserError where there are none."""
        found = types_of(self._there("train").classes)
        if not found:
            raise UserError(f"{type(self).__name__}: no training word is tagged as part of an entity")
        return tuple(found)

    @property
    def class_names(self) -> tuple[str, ...]:
        return classes_of(self.types)

    @property
    def source_rows(self) -> tuple[int, ...]:
        return tuple(self.types.index(name[2:]) if name != OUTSIDE else -1 for name in self.class_names)

    @property
    def strata(self) -> tuple[str, ...]:
        return (PLAIN, *self.types)

    def stratum(self, classes: Sequence[str]) -> int:
        rarest = rarest_type(classes, self._rare_first)
        return 1 + self.types.index(rarest) if rarest else 0


class ClassifiedSet(TextSet):
    """Texts with one class each."""

    noun = "texts"
    whole = True
    metrics = CLASSES

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({classes[0] for classes in self._there("train").classes}))

    @property
    def strata(self) -> tuple[str, ...]:
        return self.class_names

    def stratum(self, classes: Sequence[str]) -> int:
        if classes[0] not in self.class_names:
            raise UserError(f"{type(self).__name__}: the class {classes[0]!r} stands in no training {self.noun[:-1]}")
        return self.class_names.index(classes[0])
