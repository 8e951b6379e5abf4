"""Fine-tuning: cross-entropy of a new head, all weights trained; the baseline of every comparison.

>>> from cotuning_tune.hyper import fields_of
>>> fields_of(FineTune.Config)
{}
"""

from dataclasses import dataclass

from cotuning_tune.methods._base import Method


class FineTune(Method):
    """Adds nothing; weight decay is the optimiser's."""

    alone = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass
