"""What a training step sees.

Shapes: B examples of a batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One view or more of the same examples [B, ...], labels [B], places in the training split [B].

    Of mixed examples ``others`` are the labels [B] of what was mixed in, and ``share`` the part of one's own.
    ``counts``: how many labels each row of the views has [R], on the CPU; None: one each.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor  # type: ignore[assignment]
    others: Tensor | None = None
    share: float = 1.0
    counts: Tensor | None = None

    def parts(self, count: int) -> "list[Batch]":
        """The batch in so many parts of equal size, or one more; fewer parts where it has fewer examples."""
        if count == 1:
            return [self]
        if self.counts is not None:
            return self._rows(self.counts, min(count, len(self.counts)))
        places = torch.arange(len(self.labels), device=self.labels.device).tensor_split(min(count, len(self.labels)))
        return [
            Batch(
                tuple(view[chosen] for view in self.views),
                self.labels[chosen],
                self.index[chosen],
                None if self.others is None else self.others[chosen],
                self.share,
            )
            for chosen in places
        ]

    def _rows(self, counts_R: Tensor, count: int) -> "list[Batch]":
        """The rows in so many parts, each with its labels; one without labels is left out."""
        parts = counts_R.tensor_split(count)
        labels = self.labels.split([int(part.sum()) for part in parts])
        views = zip(*(view.tensor_split(count) for view in self.views), strict=True)
        every = zip(views, labels, parts, strict=True)
        return [Batch(view, own, self.index, counts=part) for view, own, part in every if len(own)]
