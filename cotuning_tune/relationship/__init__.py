"""p(source class | target class), and the temperature of the source network before it: Algorithms 1 and 2."""

from cotuning_tune.relationship._calibration import fit_temperature
from cotuning_tune.relationship._learn import Relationship, learn_relationship
from cotuning_tune.relationship._source_head import calibrated

__all__ = ["Relationship", "calibrated", "fit_temperature", "learn_relationship"]
