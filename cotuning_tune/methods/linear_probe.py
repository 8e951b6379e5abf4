"""Linear probe: the new head alone is trained, on the features of the pre-trained network as they are.

Kumar, Raghunathan, Jones, Ma, Liang, *Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution*, ICLR 2022, section 2.

>>> LinearProbe.variant
True
"""

from dataclasses import dataclass

from cotuning_tune.methods._base import Method


class LinearProbe(Method):
    """No weight of the backbone is trained, and its normalisation keeps the pre-trained statistics."""

    source = "Kumar et al., ICLR 2022"
    variant = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def still(self, done: float) -> float:
        return 1.0
