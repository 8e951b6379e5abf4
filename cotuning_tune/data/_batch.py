"""What a training step sees.

Shapes: B examples of a batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One view or more of the same examples [B, ...], labels [B], places in the training split [B].

    Of mixed examples ``others`` are the labels [B] of what was mixed in, and ``share`` the part of one's own.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor  # type: ignore[assignment]
    others: Tensor | None = None
    share: float = 1.0

    def parts(self, count: int) -> "list[Batch]":
        """The batch in so many parts of equal size, or one more; fewer parts where it has fewer examples."""
        if count == 1:
            return [self]
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
