"""LP-FT: the new head alone first, then all weights.

Kumar, Raghunathan, Jones, Ma, Liang, *Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution*, ICLR 2022, section 3.4. There both parts have learning rates of their own; here one schedule runs
over both.

>>> from cotuning_tune.hyper import fields_of
>>> list(fields_of(ProbeThenTune.Config))
['probe']
"""

from dataclasses import dataclass

from cotuning_tune.hyper import Range, hyper, shares
from cotuning_tune.methods._base import Method


class ProbeThenTune(Method):
    """The backbone stands still for the first ``probe`` of the steps."""

    source = "Kumar et al., ICLR 2022"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        probe: float = hyper(0.5, Range(0.0, 0.95), neutral=0.0, doc="share of the steps for the head alone")

        def __post_init__(self) -> None:
            shares(self, "methods.lp_ft", "probe", whole=False)

    def still(self, done: float) -> float:
        return float(done < self.config.probe)
