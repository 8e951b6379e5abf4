"""What every method, data set and backbone must do, as classes of tests: a plug-in's author subclasses them.

pytest is imported here alone.
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{part}" for part in ("_backbones", "_data_sets", "_methods", "_trainings"))
)

from cotuning_tune.testing._backbones import (  # noqa: E402 - rewritten from here on
    BackboneConformance,
    assert_copy_is_independent,
    assert_maps_as_tapped,
    images,
    make_model,
)
from cotuning_tune.testing._data_sets import DataSetConformance, pixels_of  # noqa: E402
from cotuning_tune.testing._methods import MethodConformance  # noqa: E402
from cotuning_tune.testing._trainings import (  # noqa: E402
    assert_same_weights,
    move,
    spec_of,
    terms_of,
    trainer_of,
    without_clock,
)

__all__ = [
    "BackboneConformance",
    "DataSetConformance",
    "MethodConformance",
    "assert_copy_is_independent",
    "assert_maps_as_tapped",
    "assert_same_weights",
    "images",
    "make_model",
    "move",
    "pixels_of",
    "spec_of",
    "terms_of",
    "trainer_of",
    "without_clock",
]
