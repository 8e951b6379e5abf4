"""The metrics by name: how each is called, shown and ordered."""

from collections.abc import Iterable
from dataclasses import dataclass

from cotuning_tune.base.errors import UserError, unknown


@dataclass(frozen=True)
class Metric:
    """``name``: in experiment files and records; ``shown``: in a sentence; ``full``: where a table is explained.

    ``percent``: from 0 to 100, differences are points; else as it is. ``entities``: of tagged texts alone, else of
    anything that has one class. ``of_probabilities``: it needs those of all classes. ``doc``: what it is, in a line.
    """

    name: str
    shown: str
    doc: str
    full: str = ""
    percent: bool = True
    greater_is_better: bool = True
    entities: bool = False
    of_probabilities: bool = False

    @property
    def long(self) -> str:
        """The name where there is room."""
        return self.full or self.shown

    @property
    def unit(self) -> str:
        """What stands behind a value."""
        return " %" if self.percent else ""

    @property
    def label(self) -> str:
        """The name with its unit, for an axis or a column."""
        return f"{self.shown} (%)" if self.percent else self.shown

    @property
    def digits(self) -> int:
        """Decimals of a value in tables."""
        return 2 if self.percent else 4

    @property
    def rough(self) -> int:
        """Decimals of a value in a sentence."""
        return 1 if self.percent else 3

    @property
    def points(self) -> str:
        """What differences are counted in."""
        return "points" if self.percent else self.shown

    def text(self, value: float) -> str:
        """A value without its unit."""
        return f"{value:.{self.digits}f}"

    def oriented(self, value: float) -> float:
        """The value, or its negative where less is better: of these the greater is the better one."""
        return value if self.greater_is_better else -value


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", "share of the examples that are classified right", full="top-1 accuracy"),
        Metric("mean_class_accuracy", "mean class accuracy", "mean over the classes of the accuracy of each"),
        Metric("balanced_accuracy", "balanced accuracy", "the same as mean_class_accuracy, by scikit-learn's name"),
        Metric("macro_f1", "macro F1", "mean over the classes of the F1 of each, as scikit-learn's"),
        Metric(
            "auroc",
            "AUROC",
            "area under the ROC curve, each class against the others, mean over the classes",
            of_probabilities=True,
        ),
        Metric(
            "nll", "NLL", "mean negative log-likelihood in nats, less is better", percent=False, greater_is_better=False
        ),
        Metric("entity_f1", "entity F1", "F1 of whole entities, as seqeval's and conlleval's", entities=True),
    )
}
ACCURACY = METRICS["accuracy"]
CLASSES = tuple(name for name, metric in METRICS.items() if not metric.entities)
ENTITIES = ("entity_f1", "accuracy", "nll")  # of tagged texts: the last two by token
MIXED = Metric("score", "score", "each data set by its own metric")


def metric_of(name: str) -> Metric:
    """The metric of a record; earlier versions recorded none."""
    return METRICS[name or ACCURACY.name]


def check_metric(name: str, known: Iterable[str], whose: str, key: str) -> Metric:
    """A metric that a task knows. Raises UserError (about ``key`` of an experiment file) for another name."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS, key)
    if name not in (listed := list(known)):
        raise UserError(f"{whose} cannot be judged by {name}: it knows {', '.join(listed)}", key)
    return METRICS[name]


def common(metrics: Iterable[Metric]) -> Metric:
    """The metric where all are the same, else one whose name is ``score``; those that are mixed are all percent."""
    found = dict.fromkeys(metrics)
    return next(iter(found)) if len(found) == 1 else MIXED
