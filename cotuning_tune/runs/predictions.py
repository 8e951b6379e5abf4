"""``predictions.npz``: what one retrained model says of each test example, for figures that need none of them again.

No example is named: who sees which ones a model gets wrong tunes on them. ``order`` tells whether two files
speak of the same examples in the same order. Equal contents are equal bytes. Functions import numpy, so that reports
start fast.
Shapes: E test examples, N targets (one an example, or its tokens that carry a tag), T target classes.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cotuning_tune.base.archives import refuse_growing
from cotuning_tune.scores import Predicted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARRAYS = ("labels", "predicted", "confidence", "nll")


def order_key(names: Iterable[str]) -> str:
    """A short key of examples by name and their order."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:16]


def file_hash(data: bytes) -> str:
    """What ``result.json`` records of the file."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, eq=False)
class Predictions:
    """True and predicted class, the largest softmax probability, the cross-entropy; names of the classes [T].

    ``lengths_E``: how many targets each example has; None: one each.
    """

    labels_N: "NDArray[np.int32]"
    predicted_N: "NDArray[np.int32]"
    confidence_N: "NDArray[np.float32]"
    nll_N: "NDArray[np.float32]"
    order: str
    classes: tuple[str, ...]
    lengths_E: "NDArray[np.int32] | None" = None

    @property
    def predicted(self) -> Predicted:
        """As metrics take it."""
        return Predicted(self.labels_N, self.predicted_N, self.nll_N, self.classes, self.lengths_E)

    def packed(self) -> bytes:
        """The file's bytes."""
        import numpy as np

        buffer = io.BytesIO()
        lengths = () if self.lengths_E is None else self.lengths_E  # empty: one target each
        np.savez(
            buffer,
            labels=np.asarray(self.labels_N, np.int32),
            predicted=np.asarray(self.predicted_N, np.int32),
            confidence=np.asarray(self.confidence_N, np.float32),
            nll=np.asarray(self.nll_N, np.float32),
            order=np.array(self.order),
            classes=np.array(self.classes, np.str_),
            lengths=np.asarray(lengths, np.int32),
        )
        return buffer.getvalue()

    @classmethod
    def unpacked(cls, data: bytes) -> "Predictions":
        """The content of such a file's bytes; ValueError for others."""
        import numpy as np

        try:
            refuse_growing(io.BytesIO(data))
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                labels, predicted, confidence, nll = (stored[name] for name in ARRAYS)
                classes = tuple(map(str, stored["classes"]))
                lengths = (
                    stored["lengths"] if "lengths" in stored.files else np.zeros(0, np.int32)
                )  # of earlier versions
                return cls(
                    labels, predicted, confidence, nll, str(stored["order"]), classes, lengths if len(lengths) else None
                )
        except Exception as problem:  # damaged bytes fail in many ways
            raise ValueError(f"not predictions: {problem}") from problem
