"""What a data set consists of, and how the network sees it: what images and texts have in common.

Shapes: B examples of a batch, N their targets (one each, or one for each tagged token).
"""

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cotuning_tune.data._batch import Batch
from cotuning_tune.data.images._mixing import Augmentation
from cotuning_tune.data.images._transforms import Crops


class Examples(Protocol):
    """Examples of a data set, by position."""

    def __len__(self) -> int: ...

    def take(self, positions: Sequence[int]) -> Tensor:
        """The examples at these positions as ``Views`` takes them, a copy."""
        ...

    def targets(self, labels: Sequence[int], positions: Sequence[int]) -> tuple[Tensor, np.ndarray | None]:
        """The classes int64 [N] of these examples, and how many each has; None: one each, its label."""
        ...

    def sizes(self, positions: Sequence[int]) -> list[int] | None:
        """How long these examples are, so that a batch may have equal ones; None where all are alike."""
        ...

    def pooled(self, other: "Examples") -> "Examples":
        """Those of both, these first."""
        ...

    def fingerprint(self) -> str:
        """A key of the content: other examples have another one."""
        ...

    def digests(self) -> list[str]:
        """A key of the content of each example; of a file, of its bytes."""
        ...


class Words(Hashable, Protocol):
    """How a backbone takes texts: its tokenizer. Sub-words are numbered."""

    @property
    def key(self) -> str:
        """A key of all that it does: another tokenizer has another one."""
        ...

    @property
    def pad(self) -> int:
        """The sub-word that fills a row up."""
        ...

    @property
    def ends(self) -> tuple[list[int], list[int]]:
        """What stands before the first and behind the last sub-word of a piece."""
        ...

    def split(self, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """The sub-words of each word of each sentence, one at least."""
        ...


class Views(Protocol):
    """What the network sees of stored examples, in training and in evaluation."""

    @property
    def cropped(self) -> bool:
        """Whether ``kind`` of ``plain`` makes a difference."""
        ...

    @property
    def shape(self) -> str:
        """The key that says how large an example is, with its value."""
        ...

    def batch(
        self,
        stored: Tensor,
        labels_N: Tensor,
        places: Sequence[int],
        augmentation: Augmentation,
        *,
        count: int,
        seed: int,
        step: int,
        device: torch.device,
    ) -> Batch:
        """``count`` views of stored examples on the device, with what ``augmentation`` does; by seed and step alone."""
        ...

    def plain(self, stored: Tensor, device: torch.device, kind: Crops = "centre") -> list[Tensor]:
        """Stored examples as the network takes them in evaluation: one view, or several whose logits are averaged."""
        ...

    def blank(self, count: int) -> Tensor:
        """So many examples of the largest size without content."""
        ...

    def misfit(self, made_for: tuple[int, int]) -> str:
        """What weights that were made for other sizes want; '' where they are these."""
        ...
