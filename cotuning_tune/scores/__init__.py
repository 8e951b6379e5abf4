"""What models are judged by: the metrics by name. What each makes of predictions: ``evaluate`` and ``unit_values``.

Importing this imports neither torch nor numpy.
"""

from cotuning_tune.scores._metrics import (
    ACCURACY,
    CLASSES,
    ENTITIES,
    METRICS,
    Metric,
    check_metric,
    common,
    metric_of,
)
from cotuning_tune.scores._predicted import Predicted, Score, evaluate, unit_values

__all__ = [
    "ACCURACY",
    "CLASSES",
    "ENTITIES",
    "METRICS",
    "Metric",
    "Predicted",
    "Score",
    "check_metric",
    "common",
    "evaluate",
    "metric_of",
    "unit_values",
]
