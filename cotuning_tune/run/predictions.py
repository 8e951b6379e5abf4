"""``predictions.npz``: what one retrained model says of each test image, for figures that need no image again.

No image is named: who sees which test images a model gets wrong tunes on them. ``order`` tells whether two files
speak of the same images in the same order. Equal contents are equal bytes. Functions import numpy, so that reports
start fast.
Shapes: N test images, T target classes.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cotuning_tune.base.archives import refuse_growing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARRAYS = ("labels", "predicted", "confidence", "nll")


def order_key(names: Iterable[str]) -> str:
    """A short key of images by name and their order."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:16]


def file_hash(data: bytes) -> str:
    """What ``result.json`` records of the file."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, eq=False)
class Predictions:
    """True and predicted class, the largest softmax probability, the cross-entropy; names of the classes [T]."""

    labels_N: "NDArray[np.int32]"
    predicted_N: "NDArray[np.int32]"
    confidence_N: "NDArray[np.float32]"
    nll_N: "NDArray[np.float32]"
    order: str
    classes: tuple[str, ...]

    def packed(self) -> bytes:
        """The file's bytes."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez(
            buffer,
            labels=np.asarray(self.labels_N, np.int32),
            predicted=np.asarray(self.predicted_N, np.int32),
            confidence=np.asarray(self.confidence_N, np.float32),
            nll=np.asarray(self.nll_N, np.float32),
            order=np.array(self.order),
            classes=np.array(self.classes, np.str_),
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
                return cls(labels, predicted, confidence, nll, str(stored["order"]), classes)
        except Exception as problem:  # damaged bytes fail in many ways
            raise ValueError(f"not predictions: {problem}") from problem
