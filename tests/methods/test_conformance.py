"""What every method must do: each file of the methods folder is found and tested, and two pairs."""

import pytest

from cotuning_tune.methods import names
from cotuning_tune.testing import MethodConformance

COMBINED = ["stoch_norm+co_tuning", "bss+l2_sp"]


class TestMethods(MethodConformance):
    """Each method there is."""

    too_small = ("bitfit",)

    @pytest.fixture(params=[*names(), *COMBINED])
    def name(self, request: pytest.FixtureRequest) -> str:
        return request.param
