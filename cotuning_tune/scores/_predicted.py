"""What a model says of a split, and what a metric makes of it.

Functions import numpy (and scikit-learn where a metric is its), so that reports start fast.
Shapes: N targets (images, or tokens that carry a tag), E examples (images, or sentences), T classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cotuning_tune.scores._metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """``value``: the metric's; ``loss``: mean cross-entropy in nats; ``count`` of examples; ``others`` by name."""

    value: float
    loss: float
    count: int
    others: dict[str, float]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Label, predicted class and negative log-likelihood of each target; the names of the classes.

    ``lengths_E``: how many targets each example has, in their order; None: one each. ``probabilities_NT``: for a
    metric that needs those of all classes.
    """

    labels_N: Any
    predicted_N: Any
    nll_N: Any
    classes: Sequence[str]
    lengths_E: Any = None
    probabilities_NT: Any = None

    @property
    def count(self) -> int:
        """Examples."""
        return len(self.labels_N) if self.lengths_E is None else len(self.lengths_E)

    @cached_property
    def right(self) -> Any:
        return self.predicted_N == self.labels_N

    @cached_property
    def example(self) -> "Ints":
        """Which example each target belongs to."""
        import numpy as np

        if self.lengths_E is None:
            return np.arange(len(self.labels_N))
        return np.repeat(np.arange(len(self.lengths_E)), self.lengths_E)

    def by_class(self) -> "tuple[Ints, Ints, Ints]":
        """For each class [T] how many targets are rightly given it, are given it, and have it."""
        import numpy as np

        size = len(self.classes)
        hits, given, had = (
            np.bincount(labels, minlength=size)
            for labels in (self.labels_N[self.right], self.predicted_N, self.labels_N)
        )
        return hits, given, had

    @cached_property
    def entities(self) -> "tuple[Ints, Ints, Ints]":
        """For each example [E] how many entities are rightly given, are given, and are there."""
        import numpy as np

        true_N, given_N = (self._ends(labels) for labels in (self.labels_N, self.predicted_N))
        type_T = tag_types(self.classes)
        both_N = (true_N == given_N) & (true_N > 0) & (type_T[self.labels_N] == type_T[self.predicted_N])
        hits, given, had = (
            np.bincount(self.example[chosen], minlength=self.count) for chosen in (both_N, given_N > 0, true_N > 0)
        )
        return hits, given, had

    def _ends(self, labels_N: Any) -> "Ints":
        """At the first token of each entity where it ends (the place behind its last one), 0 elsewhere.

        An entity begins with B-TYPE, and with an I-TYPE that continues none of that type (conlleval).
        """
        import numpy as np

        begins_T = np.array([name.startswith("B-") for name in self.classes])
        type_N, begins_N = tag_types(self.classes)[labels_N], begins_T[labels_N]
        new_N = np.concatenate([[True], self.example[1:] != self.example[:-1]]) if len(labels_N) else labels_N > 0
        before_N = np.where(new_N, -1, np.concatenate([[-1], type_N[:-1]]) if len(labels_N) else type_N)
        first_N = (type_N >= 0) & (begins_N | (type_N != before_N))
        stops = np.append(np.flatnonzero(first_N | new_N | (type_N < 0)), len(labels_N))
        places = np.flatnonzero(first_N)
        ends_N = np.zeros(len(labels_N), np.int64)
        ends_N[places] = stops[np.searchsorted(stops, places, side="right")]
        return ends_N


def tag_types(classes: Sequence[str]) -> "Ints":
    """The number of each tag's type [T]: the same for B-PER and I-PER, -1 for O."""
    import numpy as np

    names = [name[2:] if name[:2] in ("B-", "I-") else "" for name in classes]
    order = {name: number for number, name in enumerate(dict.fromkeys(filter(None, names)))}
    return np.array([order.get(name, -1) for name in names], np.int64)


def _share(hits: float, of: float) -> float:
    return 100.0 * hits / of if of else 0.0


def _f1(predicted: Predicted) -> float:
    from sklearn.metrics import f1_score

    return float(
        100.0 * f1_score(predicted.labels_N, predicted.predicted_N, average="macro", zero_division=0)  # of those there
    )


def _auroc(predicted: Predicted) -> float:
    """The mean over the classes that some targets have and others lack; 50 where there are none."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    is_NT = predicted.labels_N[:, None] == np.arange(len(predicted.classes))
    told = np.flatnonzero(is_NT.any(0) & ~is_NT.all(0))
    found = [roc_auc_score(is_NT[:, label], predicted.probabilities_NT[:, label]) for label in told]
    return float(100.0 * np.mean(found)) if found else 50.0


def _mean_class_accuracy(predicted: Predicted) -> float:
    hits_T, _, had_T = predicted.by_class()
    return float(100.0 * (hits_T[had_T > 0] / had_T[had_T > 0]).mean())


def _value(name: str, predicted: Predicted) -> float:
    if name == "accuracy":
        return 100.0 * int(predicted.right.sum()) / len(predicted.labels_N)
    if name in ("mean_class_accuracy", "balanced_accuracy"):
        return _mean_class_accuracy(predicted)
    if name == "macro_f1":
        return _f1(predicted)
    if name == "auroc":
        return _auroc(predicted)
    if name == "entity_f1":
        hits, given, had = (int(counts.sum()) for counts in predicted.entities)
        return _share(2 * hits, given + had)
    return float(predicted.nll_N.sum()) / len(predicted.labels_N)


def evaluate(metric: Metric, predicted: Predicted) -> Score:
    """The metric's value with what is recorded beside it: accuracies, or precision and recall of entities."""
    beside = {name: _value(name, predicted) for name in ("accuracy",) if name != metric.name}
    if metric.entities:
        hits, given, had = (int(counts.sum()) for counts in predicted.entities)
        beside |= {"precision": _share(hits, given), "recall": _share(hits, had)}
    elif metric.name != "mean_class_accuracy" and predicted.lengths_E is None:
        beside["mean_class_accuracy"] = _mean_class_accuracy(predicted)
    return Score(_value(metric.name, predicted), _value("nll", predicted), predicted.count, beside)


def unit_values(metric: Metric, predicted: Predicted) -> "Floats | None":
    """A number for each example [E] whose mean is the metric's value: what one example adds to it.

    Of an F1, a ratio, by its linear expansion at the value (delta method: Oehlert 1992). None for one that has
    none (AUROC).
    """
    import numpy as np

    count, right_N = predicted.count, predicted.right
    if metric.name == "entity_f1":
        hits_E, given_E, had_E = predicted.entities
        total = int(given_E.sum() + had_E.sum())
        value = _share(2 * hits_E.sum(), total)
        return np.asarray(value + (200.0 * hits_E - value * (given_E + had_E)) * count / max(total, 1))
    if metric.name in ("accuracy", "nll"):
        of_N = 100.0 * right_N if metric.name == "accuracy" else np.asarray(predicted.nll_N, np.float64)
        sums_E = np.bincount(predicted.example, of_N, minlength=count)
        return np.asarray(sums_E * (count / len(right_N)))
    hits_T, given_T, had_T = predicted.by_class()
    if metric.name in ("mean_class_accuracy", "balanced_accuracy"):
        return np.asarray(100.0 * right_N / had_T[predicted.labels_N] * (count / int((had_T > 0).sum())))
    if metric.name == "macro_f1":
        total_T = given_T + had_T
        there, part_T = int((total_T > 0).sum()), 1.0 / np.maximum(total_T, 1)
        f1_T = 2.0 * hits_T * part_T
        lost_T = f1_T * part_T
        own_N = 2.0 * right_N * part_T[predicted.labels_N] - lost_T[predicted.labels_N] - lost_T[predicted.predicted_N]
        return np.asarray(100.0 / there * (f1_T.sum() + own_N * count))
    return None
