"""p(source class | target class), and the temperature of the source network before it: Algorithms 1 and 2."""

from cotuning_tune.relationship._calibration import fit_temperature
from cotuning_tune.relationship._learn import Relationship, learn_relationship

__all__ = ["Relationship", "fit_temperature", "learn_relationship"]
