"""Texts as sub-words: tokenised once into the cache, long ones in pieces, and what the network sees of them.

Shapes: E sentences, R rows (pieces of sentences), L sub-words of the longest row, N words that carry a class. A stored
row is int64 [3, L]: the sub-word, whether it is one (else it pads), and whether it carries a class: the first sub-word
of a word, or the mark of a whole text.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.data._batch import Batch
from cotuning_tune.data._examples import Examples, Words
from cotuning_tune.data.images._mixing import Augmentation
from cotuning_tune.data.images._transforms import Crops

VERSION = "tokens 1"


def pieces(words: Sequence[Sequence[int]], room: int) -> list[list[Sequence[int]]]:
    """Words (their sub-words) in pieces of at most ``room`` sub-words, none torn but a word that is longer than that.

    >>> pieces([[1], [2, 3], [4], [5]], 3)
    [[[1], [2, 3]], [[4], [5]]]
    """
    found: list[list[Sequence[int]]] = [[]]
    used = 0
    for word in words:
        word = word[:room]
        if used + len(word) > room and found[-1]:
            found.append([])
            used = 0
        found[-1].append(word)
        used += len(word)
    return found


@dataclass(frozen=True, eq=False)
class Tokens:
    """Sub-words of all rows one after the other, with their marks; where rows and sentences end.

    ``ids_W``, ``active_W`` by sub-word; ``rows_R`` its end in them, ``ends_E`` by sentence its end in the rows.
    """

    ids_W: np.ndarray
    active_W: np.ndarray
    rows_R: np.ndarray
    ends_E: np.ndarray

    @classmethod
    def made(cls, sentences: Sequence[Sequence[str]], words: Words, max_length: int, *, whole: bool) -> "Tokens":
        """``whole``: a sentence has one class, at its first sub-word, and is one piece: what is too long is left
        out."""
        before, behind = words.ends
        room = max_length - len(before) - len(behind)
        ids, active, rows, ends = list[int](), list[bool](), list[int](), list[int]()
        for split in words.split(sentences):
            parts = pieces(split, room)[: 1 if whole else None]
            for part in parts:
                ids += [*before, *itertools.chain(*part), *behind]
                marks = (
                    [False for word in part for _ in word] if whole else [n == 0 for w in part for n in range(len(w))]
                )
                active += [whole, *[False] * (len(before) - 1), *marks, *[False] * len(behind)]
                rows.append(len(ids))
            ends.append(len(rows))
        return cls(np.array(ids, np.int32), np.array(active, np.bool_), np.array(rows), np.array(ends))

    @classmethod
    def cached(
        cls, sentences: Sequence[Sequence[str]], words: Words, max_length: int, *, whole: bool
    ) -> tuple["Tokens", str]:
        """``made``, or what an earlier process made of the same; and its key."""
        key = content_key(VERSION, words.key, max_length, whole, [list(sentence) for sentence in sentences])

        def compute() -> dict[str, np.ndarray]:
            return vars(cls.made(sentences, words, max_length, whole=whole))

        return cls(**cached_arrays("tokens", key, compute)), key


class TokenExamples:
    """Tokenised sentences, ``Examples`` with a class for each active sub-word.

    ``labels_N``: of all of them in order; ``digests``: of each sentence with its classes.
    """

    def __init__(self, tokens: Tokens, labels_N: np.ndarray, key: str, digests: list[str], pad: int) -> None:
        self.tokens, self.labels_N, self.key, self._digests, self.pad = tokens, labels_N, key, digests, pad

    def __len__(self) -> int:
        return len(self.tokens.ends_E)

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each row begins in the sub-words, each sentence in the rows, and each sentence in the labels."""
        tokens = self.tokens
        starts_R, first_E = (
            np.concatenate([[0], ends[:-1]]).astype(np.int64) for ends in (tokens.rows_R, tokens.ends_E)
        )
        before_W = np.concatenate([[0], np.cumsum(tokens.active_W)])
        return starts_R, first_E, before_W[np.append(starts_R, tokens.rows_R[-1:])[np.append(first_E, len(starts_R))]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """How many classes each sentence has."""
        return np.diff(self._spans[2])

    def sizes(self, positions: Sequence[int]) -> list[int]:
        starts_R, first_E, _ = self._spans
        tokens = self.tokens
        return [int(tokens.rows_R[tokens.ends_E[p] - 1] - starts_R[first_E[p]]) for p in positions]

    def take(self, positions: Sequence[int]) -> Tensor:
        """int64 [R, 3, L], padded to the longest row."""
        (starts_R, first_E, _), tokens = self._spans, self.tokens
        rows = [row for p in positions for row in range(first_E[p], tokens.ends_E[p])]
        longest = max((int(tokens.rows_R[row] - starts_R[row]) for row in rows), default=1)
        stored_R3L = np.zeros((len(rows), 3, longest), np.int64)
        stored_R3L[:, 0] = self.pad
        for place, row in enumerate(rows):
            start, end = int(starts_R[row]), int(tokens.rows_R[row])
            stored_R3L[place, 0, : end - start] = tokens.ids_W[start:end]
            stored_R3L[place, 1, : end - start] = 1
            stored_R3L[place, 2, : end - start] = tokens.active_W[start:end]
        return torch.from_numpy(stored_R3L)

    def targets(self, labels: Sequence[int], positions: Sequence[int]) -> tuple[Tensor, np.ndarray]:
        begins = self._spans[2]
        parts = [self.labels_N[begins[p] : begins[p + 1]] for p in positions]
        found = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return torch.from_numpy(found.astype(np.int64)), self.lengths[list(positions)]

    def pooled(self, other: Examples) -> "TokenExamples":
        assert isinstance(other, TokenExamples)
        one, two = self.tokens, other.tokens
        both = Tokens(
            np.concatenate([one.ids_W, two.ids_W]),
            np.concatenate([one.active_W, two.active_W]),
            np.concatenate([one.rows_R, two.rows_R + len(one.ids_W)]),
            np.concatenate([one.ends_E, two.ends_E + len(one.rows_R)]),
        )
        labels_N = np.concatenate([self.labels_N, other.labels_N])
        key = content_key(self.key, other.key)
        return TokenExamples(both, labels_N, key, self._digests + other._digests, self.pad)

    def fingerprint(self) -> str:
        return content_key(self.key, self.labels_N)

    def digests(self) -> list[str]:
        return self._digests


@dataclass(frozen=True)
class TokenViews:
    """Texts as they are, in training and in evaluation; ``max_length`` sub-words at most."""

    max_length: int

    cropped = False

    @property
    def shape(self) -> str:
        return f"task.max_length = {self.max_length}"

    def blank(self, count: int) -> Tensor:
        stored_R3L = torch.ones(count, 3, self.max_length, dtype=torch.int64)
        stored_R3L[:, 0] = 0
        return stored_R3L

    def misfit(self, made_for: tuple[int, int]) -> str:
        return ""

    def plain(self, stored_R3L: Tensor, device: torch.device, kind: Crops = "centre") -> list[Tensor]:
        return [stored_R3L.to(device, non_blocking=True)]

    def batch(
        self,
        stored_R3L: Tensor,
        labels_N: Tensor,
        places: Sequence[int],
        augmentation: Augmentation,
        *,
        count: int,
        seed: int,
        step: int,
        device: torch.device,
    ) -> Batch:
        """``count`` times the same: what tells views apart is the network's dropout."""
        counts_R = stored_R3L[:, 2].sum(1)
        view = stored_R3L.to(device, non_blocking=True)
        return Batch((view,) * count, labels_N.to(device), torch.tensor(places, device=device), counts=counts_R)
